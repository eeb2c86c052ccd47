"""`GET /` and `GET /ui/…`: the page, from files that are read once."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.errors.table import UnknownRoute

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parent / "static"
MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Nothing from elsewhere, no script or style inside the page, no frame around it: what a model wrote can do nothing.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",  # asked for anew each time, and answered with 304 where nothing has changed
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page."""

    body: bytes
    media: str

    def response(self, request: Request) -> Response:
        """Returns the file, or that the browser has it already."""
        tag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'
        headers = {**HEADERS, "etag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media)


def static_files(folder: Path) -> dict[str, StaticFile]:
    """Returns every file of the page by its path below the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in MEDIA)
    return {path.relative_to(folder).as_posix(): StaticFile(path.read_bytes(), MEDIA[path.suffix]) for path in paths}


FILES = static_files(FOLDER)


@router.get("/")
@router.get("/ui")
async def index(request: Request) -> Response:
    """The page, with the root path that its addresses begin with."""
    page = FILES["index.html"]
    root = str(request.scope.get("root_path", "")).rstrip("/")
    base = f'<base href="{root}/">'.encode()
    return StaticFile(page.body.replace(b'<base href="/">', base), page.media).response(request)


@router.get("/ui/{path:path}")
async def file(path: str, request: Request) -> Response:
    """A file of the page. It tells nothing of the cluster, so it needs no key."""
    found = FILES.get(path)
    if found is None:
        raise UnknownRoute(f"Invalid URL (GET /ui/{path[:80]})")
    return found.response(request)
