"""Path normalisation, as HTTP asks of every server: HEAD where there is GET, one path for `/x` and `/x/`, and paths
that mean the same whether or not the proxy in front cut its prefix off."""

from starlette.types import ASGIApp, Receive, Scope, Send


class PathNormalization:
    """The outermost of our layers: all others see GET for HEAD (the server keeps the body back), no trailing slash, and
    a path that begins with the root path, as ASGI has it."""

    def __init__(self, app: ASGIApp, root: str = "") -> None:
        """Normalises paths for `app`. `root`: the prefix under which a proxy serves us, `/llm` say."""
        self._app = app
        self._root = f"/{root.strip('/')}" if root.strip("/") else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            path = canonical(scope["path"], self._root)
            scope = {**scope, "method": method, "path": path, "root_path": self._root}
        await self._app(scope, receive, send)


def canonical(path: str, root: str) -> str:
    """Returns the path without a trailing slash (but for the root's own), below the root path. A redirect instead would
    make some clients drop their body or key, and behind a proxy it may name the wrong scheme."""
    inside = path == root or path.startswith(f"{root}/")
    below = (path if inside else root + path).rstrip("/")
    return f"{root}/" if below == root else below


def own_path(scope: Scope) -> str:
    """Returns the path below the root path: the one by which our code knows a route."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
