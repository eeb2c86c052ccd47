"""One upstream: the connection to it, whether it may be asked now, and how many requests it takes."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import httpx

from millstream.common.errors import BadRequest
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.settings import Address, UpstreamSettings

MOST_CONNECTIONS = 1000  # far above any number of slots: it is these that bound what runs


def client_of(address: Address, settings: UpstreamSettings) -> httpx.AsyncClient:
    """Returns a client for one upstream. The environment's proxies are used, but never to reach this machine. Raises
    `BadRequest` for certificates that cannot be read."""
    headers = {"authorization": f"Bearer {settings.key}"} if settings.key else {}
    return httpx.AsyncClient(
        base_url=address.api,
        headers=headers,
        auth=None if settings.key else address.credentials,
        verify=_trusted(settings),
        trust_env=not address.near,
        timeout=httpx.Timeout(settings.first, connect=settings.connect, pool=None),
        limits=httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS),
    )


def _trusted(settings: UpstreamSettings) -> ssl.SSLContext | bool:
    if settings.authority is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(settings.authority)
    except OSError as error:
        raise BadRequest(f"--upstream-ca {str(settings.authority)!r} cannot be read: {error}") from error
    return context


@dataclass(slots=True)
class Upstream:
    """An upstream's state. `most` is how many requests it takes at once when it is well, `limit` how many now: one that
    refuses for being busy gets as many as it had, and one more after each that went well."""

    address: Address
    client: httpx.AsyncClient
    changed: Callable[[], None]  # told whenever `open` may have changed
    abilities: Abilities | None = None  # None: not probed yet
    most: int = 0
    limit: int = 0
    running: int = 0
    away: bool = True
    rests_until: float = 0.0  # monotonic seconds
    refusals: int = field(default=0)  # in a row

    @property
    def open(self) -> int:
        """Returns how many requests it takes at once now."""
        return 0 if self.away or monotonic() < self.rests_until else self.limit

    def back(self, abilities: Abilities, most: int) -> None:
        """It answers, and can do this."""
        self.abilities, self.most, self.limit, self.away = abilities, most, most, False
        self.changed()

    def lost(self) -> None:
        """It cannot be asked until it has shown that it is there."""
        self.away = True
        self.changed()

    def rest(self, seconds: float) -> None:
        """It is to be left alone for so long. The caller sees to it that `changed` is called afterwards."""
        self.refusals += 1
        self.limit = max(1, min(self.limit, self.running))
        self.rests_until = max(self.rests_until, monotonic() + seconds)
        self.changed()

    def succeeded(self) -> None:
        """An answer of it was complete."""
        self.refusals = 0
        if self.limit < self.most:
            self.limit += 1
            self.changed()
