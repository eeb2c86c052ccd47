"""The address of Redis, read from one URL.

    redis://host:port/DB                              one server; rediss:// over TLS, unix:///path?db=DB by its socket
    redis+sentinel://host:port,host:port/SERVICE/DB   the master of that name, whichever it is now
    redis+cluster://host:port,host:port               a cluster

Ports and DB may be left out. `rediss+sentinel://` and `rediss+cluster://` are the same over TLS. `user:password@`
stands before the first host, its reserved characters percent-encoded. After `?` come options:
`ssl_ca_certs=/path/ca.pem`, `ssl_cert_reqs=none`, `sentinel_password=...` and whatever else redis-py knows.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

ServerKind = Literal["server", "sentinel", "cluster"]
PORTS: dict[ServerKind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
SCHEMES: dict[str, tuple[str, ServerKind]] = {
    "redis": ("redis", "server"),
    "rediss": ("rediss", "server"),
    "unix": ("unix", "server"),
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
}
SECRET = "password"  # an option with this in its name: password, sentinel_password, ssl_password
WRONG = "no Redis URL: reserved characters of user and password must be percent-encoded"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The content of a URL. `options` are redis-py's, the login among them; of one server also host and port."""

    kind: ServerKind
    options: dict[str, Any]
    hosts: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    service: str = ""


def parse(url: str) -> RedisAddress:
    """Raises `ValueError`, without repeating the URL: it may hold a password."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ValueError(f"expected one of {', '.join(f'{known}://' for known in SCHEMES)}")
    base, kind = SCHEMES[scheme]
    if kind == "server":
        database = "" if base == "unix" else urlsplit(url).path.strip("/")
        return RedisAddress("server", _options(url, database))
    rest, question, query = rest.partition("?")
    login, at, place = rest.rpartition("@")
    hosts, _, path = place.partition("/")
    service, _, database = path.partition("/")
    if kind == "cluster" and path:
        raise ValueError("a cluster has no databases: nothing may follow its hosts")
    options = _options(f"{base}://{login}{at}host/{database}{question}{query}", database)
    del options["host"]
    if options.pop("connection_class", None):
        options["ssl"] = True  # how clients of several servers are told
    return RedisAddress(kind, options, [_host(text, PORTS[kind]) for text in hosts.split(",")], service or "mymaster")


def without_secrets(url: str) -> str:
    """Returns a URL fit for a screen or a log, whatever its form: neither the login's password nor one among its
    options is in it."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    if "?" in credentials:  # reserved characters that nobody has encoded: what is what cannot be told
        user, colon = "***", ""
    shown, question, query = place.partition("?")
    options = "&".join(_without_secret(option) for option in query.split("&"))
    return f"{scheme}{separator}{user}{':***' if colon else ''}{at}{shown}{question}{options}"


def address(url: str) -> str:
    """Returns where a server is, as a label: neither login nor options."""
    place = url.partition("://")[2].partition("?")[0]
    return without_secrets(place).rpartition("@")[2]


def _without_secret(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}{equals}***" if SECRET in unquote(name).lower() else option


def _options(url: str, database: str) -> dict[str, Any]:
    if database and not database.isdigit():
        raise ValueError(WRONG if "@" in database else "the database must be a number")
    try:
        return cast(dict[str, Any], parse_url(url))
    except ValueError:
        raise ValueError(WRONG) from None


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        found = (parts.hostname or "", parts.port or port)
    except ValueError:
        raise ValueError(WRONG) from None
    if not found[0]:
        raise ValueError("a host is missing")
    return found
