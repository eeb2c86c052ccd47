"""Authentication: finds the tenant of an API key, and decides where the gateway may listen without any key."""

from typing import Any, Protocol

from starlette.datastructures import Headers

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.errors import Unauthorized
from millstream.common.process.addresses import loopback
from millstream.gateway.settings import GatewaySettings

ANYONE = "default"  # the tenant of a gateway without keys
HEALTH, READINESS = "/health", "/ready"  # for whoever watches over the process; they tell no secret
DESCRIPTIONS = ("/docs", "/redoc", "/openapi.json")  # for browsers, which have no key yet; the same for everybody
PAGE, PAGE_FILES = ("/", "/ui"), "/ui/"  # the web page, which asks for a key itself; it tells nothing of the cluster
OPEN_PATHS = frozenset((HEALTH, READINESS, *DESCRIPTIONS, *PAGE))
SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, if this gateway has any. `x-api-key` will do.",
}


class Keys(Protocol):
    """A source that knows the API keys."""

    async def owner(self, key: str) -> ApiKey | None:
        """Returns the tenant of a key and what it may do; None for an unknown key. Raises `Unavailable`."""
        ...

    async def demanded(self) -> bool:
        """Tells whether a request without a key is refused. Raises `Unavailable`."""
        ...


async def authenticate(headers: Headers, keys: Keys) -> ApiKey:
    """Returns the key of the caller, read from `Authorization: Bearer` or Anthropic's `x-api-key`. Raises
    `Unauthorized`."""
    key, demanded = presented(headers), await keys.demanded()
    if key is None and demanded:
        raise Unauthorized(
            "You didn't provide an API key. Provide it in an Authorization header with Bearer auth, "
            "i.e. 'Authorization: Bearer YOUR_KEY'."
        )
    if key is None or not demanded:
        return ApiKey("", ANYONE)
    owner = await keys.owner(key)
    if owner is None:
        raise Unauthorized(f"Incorrect API key provided: {redacted(key)}.")
    return owner


def is_open(path: str) -> bool:
    """Tells whether a path needs no key."""
    return path in OPEN_PATHS or path.startswith(PAGE_FILES)


def told_of_keys(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the OpenAPI document with API keys in it. They are optional there: only Redis tells whether they are
    demanded."""
    document["components"] |= {"securitySchemes": {"key": SCHEME}}
    document["security"] = [{"key": []}, {}]
    for path in (HEALTH, READINESS):
        document["paths"][path]["get"]["security"] = []
    return document


def presented(headers: Headers) -> str | None:
    """Returns the key a request carries."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key") or None


def redacted(key: str) -> str:
    """Returns enough of a key for its owner to recognise it."""
    return f"{key[:3]}***{key[-4:]}" if len(key) > 12 else "***"


def check_exposure(settings: GatewaySettings, *, keyed: bool) -> None:
    """Raises `ValueError` where anyone on the network could use the gateway without a key. `keyed`: the settings have
    keys."""
    if keyed or settings.require_keys or settings.insecure_no_auth or loopback(settings.host):
        return
    raise ValueError(
        f"Refusing to listen on {settings.host} without API keys: anyone who reaches it could use it. Configure "
        "api_keys_file (MILLSTREAM_API_KEYS_FILE) or api_keys, make keys with `millstream keys create` and say "
        "--require-keys, listen on 127.0.0.1, or accept the risk with --insecure-no-auth."
    )
