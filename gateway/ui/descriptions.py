"""`GET /docs` and `GET /redoc`: the API's description for people, with nothing from other hosts. And for programs:
`GET /openapi.json`."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Protocol, cast

import msgspec
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

from millstream.gateway.errors.table import UnknownRoute
from millstream.gateway.ui.route import HEADERS, MEDIA, StaticFile

router = APIRouter(include_in_schema=False)
# The package brings the files of Swagger UI and ReDoc; its own app is not used.
FOLDER = Path(str(files("fastapi_offline"))) / "static"
OWN = "ui/described"  # where these files are found
INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
ICON = "ui/icon.svg"


class DescribedApp(Protocol):
    """An app that has its description ready, or makes it without holding the event loop."""

    async def document(self) -> bytes:
        """Returns it as JSON."""
        ...


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
async def openapi(request: Request) -> Response:
    """The description itself, as an OpenAPI document; its paths are below where this gateway was reached."""
    document = await cast(DescribedApp, request.app).document()
    if root := _root(request):
        document = b'{"servers":' + msgspec.json.encode([{"url": root}]) + b"," + document.removeprefix(b"{")
    return Response(document, media_type="application/json")


@router.get("/docs")
async def swagger(request: Request) -> Response:
    """Swagger UI, in which the API can be tried out."""
    root = _root(request)
    return _allowed(
        get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="Millstream: the API",
            swagger_js_url=f"{root}/{OWN}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/{OWN}/swagger-ui.css",
            swagger_favicon_url=f"{root}/{ICON}",
        )
    )


@router.get("/redoc")
async def redoc(request: Request) -> Response:
    """ReDoc, in which the API can be read."""
    root = _root(request)
    return _allowed(
        get_redoc_html(
            openapi_url=f"{root}/openapi.json",
            title="Millstream: the API",
            redoc_js_url=f"{root}/{OWN}/redoc.standalone.js",
            redoc_favicon_url=f"{root}/{ICON}",
            with_google_fonts=False,
        )
    )


@router.get("/" + OWN + "/{name}")
async def described_file(name: str, request: Request) -> Response:
    """A script or a style of the two; read when it is asked for, because few are."""
    path = FOLDER / name
    if path.suffix not in MEDIA or path.parent != FOLDER or not path.is_file():
        raise UnknownRoute(f"Invalid URL (GET /{OWN}/{name[:80]})")
    return StaticFile(path.read_bytes(), MEDIA[path.suffix]).response(request)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def _allowed(page: HTMLResponse) -> Response:
    """Returns the page with a policy that admits its own inline script and nothing from elsewhere. Both programs style
    their elements in place, and ReDoc searches in a worker of its own."""
    body = bytes(page.body)
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in INLINE.findall(body)]
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in digests)])
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(body, headers=HEADERS | {"content-security-policy": policy})
