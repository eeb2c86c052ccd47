"""Images at addresses: fetched from where the operator allows, and from nowhere else, whatever a client tries."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from millstream.common.errors import BadRequest
from millstream.gateway.services.image_fetcher import ImageFetcher
from tests.gateway.conftest import gateway
from tests.gateway.requests.test_images import PIXEL, ask, written
from tests.gateway.scripted import ScriptedCluster

PNG = base64.b64decode(PIXEL)
DATA = f"data:image/png;base64,{PIXEL}"
Route = tuple[int, dict[str, str], bytes]


class ImageHost:
    """A server of images, on the loopback as an operator's own would be. It keeps the paths it was asked for."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {"/a.png": (200, {}, PNG), "/b": (404, {}, b""), "/text": (200, {}, b"hello")}
        self.asked: list[str] = []
        self.port = 0

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.name}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        self.asked.append(path)
        status, headers, body = self.routes.get(path, (404, {}, b""))
        told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} So\r\nconnection: close\r\n{told}\r\n".encode() + body)
        writer.close()


@pytest_asyncio.fixture
async def host() -> AsyncIterator[ImageHost]:
    made = ImageHost()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


async def failure(fetcher: ImageFetcher, url: str) -> str:
    had = await fetcher.fetch([url])
    assert had.fetched == {}
    return had.failed[url]


async def test_a_host_that_is_named_is_asked(host: ImageHost) -> None:
    host.routes["/moved"] = (302, {"location": "/a.png"}, b"")
    had = await ImageFetcher([host.name], 1000).fetch([host.url("/a.png"), host.url("/moved"), DATA])
    assert had.fetched == {host.url("/a.png"): DATA, host.url("/moved"): DATA} and not had.failed


@pytest.mark.parametrize("hosts", [[], ["*"], ["127.0.0.1"], ["*.example.org"], ["127.0.0.1:1"]])
async def test_no_other_is(host: ImageHost, hosts: list[str]) -> None:
    """Not even with `*`, because the loopback is no public address; and a name without a port is for the usual one."""
    assert "host is not one" in await failure(ImageFetcher(hosts, 1000), host.url("/a.png"))
    assert host.asked == []


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.8", "169.254.169.254", "127.0.0.1", "0.0.0.0", "224.0.0.1", "100.64.0.1"),
        *("::1", "fd00::1", "::ffff:10.0.0.8", "64:ff9b::a00:8", "2002:a00:8::1"),
    ],
)
async def test_a_public_name_that_leads_inside_is_not_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    async def resolved(*_: object, **__: object) -> list[Any]:
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 80))
        return [public, (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    assert "host is not one" in await failure(ImageFetcher(["*"], 1000), "http://img.example.org/a.png")


async def test_a_redirect_is_checked_as_well(host: ImageHost) -> None:
    inside = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    async with inside:
        port = inside.sockets[0].getsockname()[1]
        host.routes["/moved"] = (302, {"location": f"http://127.0.0.1:{port}/a.png"}, b"")
        assert "host is not one" in await failure(ImageFetcher([host.name], 1000), host.url("/moved"))
    assert host.asked == ["/moved"]
    host.routes["/round"] = (302, {"location": "/round"}, b"")
    assert "redirected too often" in await failure(ImageFetcher([host.name], 1000), host.url("/round"))


@pytest.mark.parametrize(
    ("path", "said"), [("/b", "answered 404"), ("/text", "no PNG, JPEG"), ("/large", "larger than 1000 bytes")]
)
async def test_what_is_no_good_image_is_told(host: ImageHost, path: str, said: str) -> None:
    host.routes["/large"] = (200, {}, PNG + bytes(5000))
    assert said in await failure(ImageFetcher([host.name], 1000), host.url(path))


@pytest.mark.parametrize("url", ["http://", "http://u:p@127.0.0.1/a", "http://127.0.0.1:99999/a", "http://[::1/a"])
async def test_what_is_no_address_is_told(url: str) -> None:
    assert "address" in await failure(ImageFetcher(["127.0.0.1", "*"], 1000), url)


async def test_a_request_names_few_addresses() -> None:
    with pytest.raises(BadRequest, match="at most 16"):
        await ImageFetcher([], 1000).fetch(f"http://host/{n}" for n in range(17))


async def test_a_model_that_sees_is_shown_what_was_fetched(seeing: ScriptedCluster, host: ImageHost) -> None:
    parts = [{"type": "image_url", "image_url": {"url": host.url(path)}} for path in ("/a.png", "/b")]
    async with gateway(seeing, image_hosts=[host.name]) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/v1/chat/completions", json=ask(parts[0]))).status_code == 200
        refused = await http.post("/v1/chat/completions", json=ask(*parts))
    assert written(seeing)[0]["content"] == [{"type": "image_url", "image_url": {"url": DATA}}]
    error = refused.json()["error"]
    assert refused.status_code == 400 and error["param"] == "messages[0].content[1].image_url.url"
    assert "its host answered 404" in error["message"]


async def test_a_model_that_reads_text_only_costs_no_fetch(cluster: ScriptedCluster, host: ImageHost) -> None:
    part = {"type": "image_url", "image_url": {"url": host.url("/a.png")}}
    async with gateway(cluster, image_hosts=[host.name]) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/v1/chat/completions", json=ask(part))).status_code == 400
    assert host.asked == []
