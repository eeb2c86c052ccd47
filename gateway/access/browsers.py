"""Finds which requests a foreign web page could have made, for a gateway that asks for no keys: where nothing has to be
known to use it, the browser of somebody on this machine must not be the way in.

Two ways are closed: a page that posts to us across sites (it tells so in `Origin` or `Sec-Fetch-Site`), and a page
whose own name was made to lead here (DNS rebinding: the name stands in `Host`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from millstream.common.process.addresses import loopback
from millstream.gateway.access.authentication import is_open
from millstream.gateway.settings import GatewaySettings

TELLING = (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode")
SAFE = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class BrowserRules:
    """`hosts`: names, beside those of this machine, under which we may be asked; None: any name. `origins`: pages that
    may ask from elsewhere; with `*` all may."""

    hosts: frozenset[str] | None
    origins: frozenset[str]

    def complaint(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Says what is wrong with a request and what to set if it is meant; empty if nothing is."""
        told = {name: value for name, value in headers if name in TELLING}
        host, origin, site, mode = (told.get(name, b"").decode("latin-1") for name in TELLING)
        if self.hosts is not None and host and not known_host(host, self.hosts):
            return (
                f"A gateway without API keys answers only when asked as this machine, not as '{host[:100]}'. Ask "
                "http://127.0.0.1 or localhost, list the name in allowed_hosts (MILLSTREAM_ALLOWED_HOSTS), or demand "
                "keys (`millstream keys create`)."
            )
        harmless = method in SAFE and (mode == "navigate" or is_open(path))
        if not harmless and (origin or site == "cross-site") and self._foreign(origin, host):
            return (
                f"A gateway without API keys does not answer pages of other sites ('{origin[:100] or site}'). List the "
                "page's origin in cors_origins (MILLSTREAM_CORS_ORIGINS), or demand keys (`millstream keys create`)."
            )
        return ""

    def _foreign(self, origin: str, host: str) -> bool:
        """A page of the same name on another port is no other site, and this machine's own pages may ask."""
        if "*" in self.origins or origin in self.origins:
            return False
        place = origin.partition("://")[2]
        return not place or not (host_name(place) == host_name(host) or known_host(place, frozenset[str]()))


def browser_rules(settings: GatewaySettings) -> BrowserRules:
    """Names are checked where only this machine is to be served, and where any are listed."""
    checked = loopback(settings.host) or bool(settings.allowed_hosts)
    hosts = frozenset(name.lower() for name in settings.allowed_hosts)
    return BrowserRules(hosts if checked else None, frozenset(settings.cors_origins))


def host_name(place: str) -> str:
    """`Host` without its port, in small letters: `[::1]:8000` is `::1`."""
    if place.startswith("["):
        return place[1:].partition("]")[0].lower()
    return place.partition(":")[0].rstrip(".").lower()


@lru_cache(maxsize=256)  # the same few names in every request; a client's own are forgotten again
def known_host(place: str, names: Collection[str]) -> bool:
    """Tells whether this is a name of this machine, or one that is listed."""
    name = host_name(place)
    return "*" in names or name in names or name.endswith(".localhost") or loopback(name)
