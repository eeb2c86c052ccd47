"""A small server that speaks the interfaces of the hub and of ModelScope as their clients use them: lists of files with
checksums, redirects to where large files lie, ranges, refusals, and bodies that break off."""

import json
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

SMALL = 4096  # bytes up to which the hub keeps a file in Git itself
PAGE = 3  # files on one page of a list


@dataclass
class Repository:
    """A published model. `lies`: content that is served instead of what the list promises."""

    files: dict[str, bytes]
    gated: bool = False
    lies: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def commit(self) -> str:
        told = json.dumps({path: sha256(content).hexdigest() for path, content in self.files.items()}, sort_keys=True)
        return sha1(told.encode()).hexdigest()


def git_sha1(content: bytes) -> str:
    return sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@dataclass
class HubRequest:
    method: str
    path: str
    range: str
    authorised: bool


class HubServer:
    """Serves while it is entered. `cuts`: by file, after how many bytes each of the next answers breaks off; `slow`: no
    file is sent to its end before it is set; `enough`: the headers of the next answers, which have the status 429."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.cuts: dict[str, list[int]] = {}
        self.down = False
        self.enough: list[dict[str, str]] = []
        self.stuck: Event | None = None
        self.asked: list[HubRequest] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                _answer(hub, self, body=True)

            def do_HEAD(self) -> None:
                _answer(hub, self, body=False)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def elsewhere(self) -> str:
        """Returns the address where large files lie, which is another host to a client."""
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def __enter__(self) -> Self:
        for server in self._servers:
            server.daemon_threads = True
            Thread(target=server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def bodies(self, path: str) -> list[str]:
        """Returns the ranges that were asked of a file, one for each request."""
        return [asked.range for asked in self.asked if asked.method == "GET" and asked.path.endswith(path)]


def _answer(hub: HubServer, request: BaseHTTPRequestHandler, *, body: bool) -> None:
    split = urlsplit(request.path)
    path, query = unquote(split.path), {name: values[0] for name, values in parse_qs(split.query).items()}
    authorised = request.headers.get("Authorization") == "Bearer good" or "m_session_id=good" in str(request.headers)
    ranged = request.headers.get("Range", "")
    hub.asked.append(HubRequest(request.command, query.get("FilePath", path), ranged, authorised))
    if hub.down:
        return _say(request, 503, b"busy", {})
    parts = path.strip("/").split("/")
    match parts:
        case ["api", "v1", "models", owner, name, "repo", *rest]:
            return _modelscope(hub, request, f"{owner}/{name}", query, listing=rest == ["files"])
        case ["api", "models", owner, name, *rest]:
            return _api(hub, request, f"{owner}/{name}", rest, query)
        case ["content", *_] if hub.enough:
            return _say(request, 429, b"too many requests", hub.enough.pop(0))
        case ["content", owner, name, *file]:
            repository = hub.repositories[f"{owner}/{name}"]
            return _content(hub, request, repository, "/".join(file), {})
        case [owner, name, "resolve", _, *file]:
            return _resolve(hub, request, f"{owner}/{name}", "/".join(file), authorised)
        case _:
            return _say(request, 404, b"nothing here", {})


def _say(request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in ({"Content-Length": str(len(content))} | headers).items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


def _api(hub: HubServer, request: BaseHTTPRequestHandler, id: str, rest: list[str], query: dict[str, str]) -> None:
    repository = hub.repositories.get(id)
    if repository is None:
        return _say(request, 401, b"{}", {"X-Error-Code": "RepoNotFound"})
    revision = rest[1] if len(rest) > 1 else "main"
    if revision not in ("main", repository.commit):
        return _say(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
    if rest[:1] != ["tree"]:
        told = {"id": id, "sha": repository.commit, "siblings": [{"rfilename": path} for path in repository.files]}
        return _say(request, 200, json.dumps(told).encode(), {"Content-Type": "application/json"})
    start = int(query.get("cursor", "0"))
    entries = [_entry(path, content) for path, content in repository.files.items()][start : start + PAGE]
    more = start + PAGE < len(repository.files)
    url = f"{hub.address}/api/models/{id}/tree/{revision}?recursive=True&cursor={start + PAGE}"
    link = {"Link": f'<{url}>; rel="next"'} if more else {}
    return _say(request, 200, json.dumps(entries).encode(), {"Content-Type": "application/json"} | link)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
    if len(content) <= SMALL:
        return entry
    return entry | {"lfs": {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def _resolve(hub: HubServer, request: BaseHTTPRequestHandler, id: str, path: str, authorised: bool) -> None:
    repository = hub.repositories[id]
    if repository.gated and not authorised:
        return _say(request, 401, b"", {"X-Error-Code": "GatedRepo"})
    content = repository.files.get(path)
    if content is None:
        return _say(request, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.commit})
    known = {"X-Repo-Commit": repository.commit, "ETag": f'"{git_sha1(content)}"'}
    if len(content) <= SMALL:
        return _content(hub, request, repository, path, known)
    linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha256(content).hexdigest()}"'}
    place = f"{hub.elsewhere}/content/{id}/{path}"
    return _say(request, 302, b"", known | linked | {"Location": place})


def _modelscope(
    hub: HubServer, request: BaseHTTPRequestHandler, id: str, query: dict[str, str], *, listing: bool
) -> None:
    repository = hub.repositories.get(id)
    if repository is None or query.get("Revision") != "master":
        return _say(request, 404, b'{"Code": 10010205001, "Message": "not found"}', {})
    if not listing:
        if repository.gated and "good" not in str(request.headers):
            return _say(request, 403, b"", {})
        return _content(hub, request, repository, query["FilePath"], {})
    entries = [
        {"Name": path.rsplit("/", 1)[-1], "Path": path, "Size": len(content), "Type": "blob"}
        | {"Sha256": sha256(content).hexdigest(), "Revision": repository.commit}
        for path, content in repository.files.items()
    ]
    folder = {"Name": "assets", "Path": "assets", "Size": 0, "Type": "tree", "Sha256": ""}
    told = {"Code": 200, "Data": {"Files": [folder, *entries]}, "Success": True}
    return _say(request, 200, json.dumps(told).encode(), {"Content-Type": "application/json"})


def _content(
    hub: HubServer, request: BaseHTTPRequestHandler, repository: Repository, path: str, known: dict[str, str]
) -> None:
    content = repository.lies.get(path, repository.files[path])
    start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
    if start >= len(content) > 0 and start:
        return _say(request, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
    sent = content[start:]
    request.send_response(206 if start else 200)
    ranged = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
    for name, value in (known | ranged | {"Content-Length": str(len(sent))}).items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "HEAD":
        return None
    if hub.cuts.get(path):
        request.wfile.write(sent[: hub.cuts[path].pop(0)])
        request.wfile.flush()
        if hub.stuck is not None:
            hub.stuck.wait(60)
        request.close_connection = True
        return request.connection.close()
    request.wfile.write(sent)
    return None
