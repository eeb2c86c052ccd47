"""The load generator: open loop (requests come at their times, answered or not) or closed loop (so many at a time)."""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from time import perf_counter

import httpx

from millstream.bench.command.datasets import Body, bodies
from millstream.bench.command.http_client import Connections, Target
from millstream.bench.command.settings import BenchSettings
from millstream.bench.command.statistics import AnswerTimes
from millstream.common.errors import NotFound, Unavailable
from millstream.common.process.tasks import TaskGroup

CHAT = "/chat/completions"


@dataclass(slots=True)
class LoadProgressShown:
    """The progress of a run."""

    sent: int = 0
    answers: list[AnswerTimes] = field(default_factory=list[AnswerTimes])


Watch = Callable[[LoadProgressShown], None]


class Load:
    """One run against one server."""

    def __init__(self, settings: BenchSettings, model: str) -> None:
        self._settings = settings
        self._target = Target.of(settings.base_url, settings.api_key)
        self._connections = Connections(self._target)
        asked = bodies(settings, model)
        self._bodies = chain([next(asked)], asked)  # a file that cannot be used is told before anything is sent
        self.progress = LoadProgressShown()

    async def run(self) -> list[AnswerTimes]:
        """Runs until the last answer. Failures are in the answers, nothing is raised for them."""
        try:
            await (self._open_loop() if self._settings.rate else self._closed_loop())
        finally:
            self._connections.close()
        return self.progress.answers

    async def _open_loop(self) -> None:
        begin = perf_counter()
        async with TaskGroup() as requests:
            for at in self._times():
                if (wait := begin + at - perf_counter()) > 0:
                    await asyncio.sleep(wait)
                requests.create_task(self._one(next(self._bodies)))

    def _times(self) -> Iterator[float]:
        """Yields the seconds from the beginning at which requests are due."""
        settings, chance, at = self._settings, random.Random(self._settings.seed), 0.0
        for _ in range(settings.requests):
            yield at
            at += chance.expovariate(settings.rate) if settings.arrivals == "poisson" else 1 / settings.rate
            if at > settings.duration:
                return

    async def _closed_loop(self) -> None:
        until = perf_counter() + self._settings.duration
        async with TaskGroup() as clients:
            for _ in range(min(self._settings.concurrency, self._settings.requests)):
                clients.create_task(self._client(until))

    async def _client(self, until: float) -> None:
        while self.progress.sent < self._settings.requests and perf_counter() < until:
            await self._one(next(self._bodies))

    async def _one(self, body: Body) -> None:
        self.progress.sent += 1
        request = self._target.request(CHAT, json.dumps(body, separators=(",", ":")).encode())
        self.progress.answers.append(await self._connections.ask(request, self._settings.timeout))


async def first_model(settings: BenchSettings) -> str:
    """Returns the model to ask for. Raises `Unavailable` or `NotFound`."""
    if settings.model:
        return settings.model
    headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            reply = await client.get(f"{settings.base_url.rstrip('/')}/models", headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable(f"{settings.base_url} does not answer: {error}") from error
    listed = reply.json().get("data") if reply.status_code == 200 else None
    if not listed:
        raise NotFound(f"{settings.base_url} lists no model (status {reply.status_code}); name one with --model.")
    return str(listed[0]["id"])


async def measured(settings: BenchSettings, watch: Watch | None = None) -> list[AnswerTimes]:
    """Runs the load; `watch` is told twice a second how far it is."""
    load = Load(settings, await first_model(settings))
    running = asyncio.create_task(load.run())
    try:
        while not running.done():
            if watch is not None:
                watch(load.progress)
            await asyncio.wait({running}, timeout=0.5)
    finally:
        running.cancel()
    return await running
