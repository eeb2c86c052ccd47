"""Settings of upstreams, and the addresses that follow from a URL."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from millstream.common.errors import BadRequest
from millstream.common.process.addresses import loopback

SLOTS = 16  # requests at once, for an upstream that does not tell: what a busy laptop's server still takes


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """The upstreams of one model. `first` bounds the seconds until an answer's first sign of life, `silence` those
    between two later ones."""

    urls: tuple[str, ...]
    key: str = field(default="", repr=False)
    model: str | None = None  # as the upstreams call it; None: the only one they list
    served_name: str | None = None
    slots: int | None = None  # of all upstreams together
    context_length: int | None = None
    authority: Path | None = None  # certificates to trust beside the system's
    connect: float = 10.0
    first: float = 300.0
    silence: float = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """One upstream's places: `api` has OpenAI's routes, `root` what else the server has. Neither holds credentials, so
    that logs and cards may show them."""

    api: str
    root: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)  # name and password, of the URL

    @property
    def near(self) -> bool:
        """Tells whether it is on this machine: no proxy of the environment leads there."""
        return loopback(urlsplit(self.root).hostname or "")


def address_of(url: str) -> Address:
    """Returns the places of a server given as `http://host:8080` or as its base URL, `http://host:8080/v1`. Raises
    `BadRequest`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = url.rpartition("@")[2]
        raise BadRequest(
            f"--upstream {shown!r} should be the URL of an OpenAI server, such as http://127.0.0.1:8080/v1."
        )
    named = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
    if base.endswith("/v1"):
        return Address(base, base.removesuffix("/v1"), named)
    return Address(base if parts.path.strip("/") else f"{base}/v1", base, named)
