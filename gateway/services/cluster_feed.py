"""The cluster as seen at regular moments, looked at once for however many browsers watch it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

import structlog

from millstream.common.broker.models.inspection import LiveJob
from millstream.common.broker.models.overview import Overview
from millstream.common.errors import Unavailable
from millstream.common.job import JobId
from millstream.common.single_flight import SingleFlight
from millstream.gateway.queue.client import Waiting

EVERY = 1.0  # seconds between two looks while somebody watches
RATE_WINDOW = 10.0  # seconds after which an earlier look says nothing of the present rates
Places = Callable[[list[LiveJob]], Awaitable[dict[JobId, Waiting]]]
log = structlog.stdlib.get_logger(part="cluster_feed")


@dataclass(frozen=True, slots=True)
class Sight:
    """The cluster at one moment. `rates`: (model, worker) -> tokens/s since its heartbeat before; `places`: where the
    jobs that wait stand; `error`: why the server could not be asked, with `overview` as it was before."""

    overview: Overview | None
    rates: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    error: str = ""
    places: dict[JobId, Waiting] = field(default_factory=dict[JobId, Waiting])


@dataclass(slots=True)
class _Beat:
    at: float  # Redis time of the heartbeat, seconds
    tokens: float
    rate: float


class ClusterFeed:
    """Looks at the cluster while somebody watches, and only then."""

    def __init__(self, look: Callable[[], Awaitable[Overview]], places: Places) -> None:
        self._look = look
        self._places = places
        self._beats: dict[tuple[str, str], _Beat] = {}
        self._seen: tuple[float, Sight] | None = None
        self._once = SingleFlight(self._looked)
        self.looks = 0

    async def now(self) -> Sight:
        """Returns the cluster as it is, at most `EVERY` seconds old. Raises `Unavailable`."""
        if self._seen is not None and monotonic() - self._seen[0] < EVERY * 0.9:
            return self._seen[1]
        return await self._once("")

    async def watch(self) -> AsyncGenerator[Sight]:
        """Yields the cluster again and again; while Redis is away, what is known with the reason."""
        while True:
            try:
                sight = await self.now()
            except Unavailable as error:
                before = self._seen[1] if self._seen else Sight(None)
                sight = Sight(before.overview, before.rates, error.message, before.places)
            yield sight
            await asyncio.sleep(EVERY)

    async def _looked(self, _: str) -> Sight:
        self.looks += 1
        found = await self._look()
        places = await self._places([job for model in found.models for job in model.jobs])
        sight = Sight(found, self._rates(found), places=places)
        self._seen = (monotonic(), sight)
        return sight

    def _rates(self, found: Overview) -> dict[tuple[str, str], float]:
        beats: dict[tuple[str, str], _Beat] = {}
        for model in found.models:
            for worker in model.info.workers:
                told = (float(worker.details.get("beat", 0)) / 1000, float(worker.details.get("tokens", 0)))
                key = (worker.model, worker.id)
                beats[key] = _next_beat(self._beats.get(key), *told)
        self._beats = beats
        return {key: beat.rate for key, beat in beats.items() if found.at - beat.at < RATE_WINDOW}


def _next_beat(before: _Beat | None, at: float, tokens: float) -> _Beat:
    """Returns a worker's newest heartbeat with the rate since the one before; the same again if there was none
    since."""
    if before is None or at - before.at > RATE_WINDOW or tokens < before.tokens:
        return _Beat(at, tokens, 0.0)
    if at <= before.at:
        return before
    return _Beat(at, tokens, (tokens - before.tokens) / (at - before.at))
