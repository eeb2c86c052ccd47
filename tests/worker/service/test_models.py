"""Models that come on demand, with several workers that could load them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from millstream.cli.inspect.tables import show_workers
from millstream.cli.settings import WorkersSettings
from millstream.common.broker import jobs
from millstream.common.broker.models.directory import model_info
from millstream.common.broker.models.load_requests import load_request_of, request_load
from millstream.common.job import GatewayId, JobId, ModelName, WorkerId
from millstream.worker.engines.base import LoadProgress, ModelCard
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.jobs.running_jobs import RunningJobs
from millstream.worker.service import models as roster
from millstream.worker.service.heartbeat import Heartbeat, Notes
from millstream.worker.service.models import WorkerModels
from millstream.worker.service.registry import ModelOffer
from millstream.worker.settings import WorkerSettings
from tests.harness.queue_site import MODEL, Site, request
from tests.harness.support import wait_until

EXTRA = ModelName("extra")


class Counted(SimulatedEngine):
    """Counts how often it is loaded; `faulty` ones cannot be."""

    loads = 0
    faulty = False

    def load(self, progress: LoadProgress = lambda stage, fraction: None) -> ModelCard:
        type(self).loads += 1
        if self.faulty:
            raise TypeError("a fault in the model's own code")
        return super().load(progress)


class Faulty(Counted):
    faulty = True


@asynccontextmanager
async def working(
    site: Site, name: str, kind: type[Counted], rate: float = 0.0, slots: int = 8
) -> AsyncGenerator[None]:
    """A worker process's models: one that is there, one on demand with one slot."""
    offers = [
        ModelOffer(MODEL, lambda **_: SimulatedEngine(SimulatedSettings(name=MODEL, slots=slots, rate=rate))),
        ModelOffer(EXTRA, lambda **_: kind(SimulatedSettings(name=EXTRA, slots=1, rate=rate)), resident=False),
    ]
    models = WorkerModels(
        site.broker, WorkerId(name), WorkerSettings(redis_url=site.broker.url, drain=0, lease=1), offers
    )
    stop = asyncio.Event()
    assert await models.load_residents(stop)
    task = asyncio.create_task(models.serve(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def live(site: Site, model: ModelName) -> int:
    return (await model_info(site.broker, model)).live


async def test_of_two_workers_one_loads_though_its_first_heartbeat_is_slow(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Heartbeat.once

    async def slowly(self: Heartbeat, running_jobs: RunningJobs, notes: Notes) -> None:
        await asyncio.sleep(0.3)
        await once(self, running_jobs, notes)

    monkeypatch.setattr(Heartbeat, "once", slowly)
    monkeypatch.setattr(roster, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(Counted, "loads", 0)
    async with working(site, "a", Counted), working(site, "b", Counted):
        await wait_until(lambda: live(site, MODEL))
        envelope = jobs.Envelope(GatewayId("nobody"), "acme", "default", timeout_ms=60_000, retention_ms=60_000)
        await jobs.submit(site.broker, EXTRA, envelope, [jobs.NewJob(JobId("waits"), request())])
        await wait_until(lambda: live(site, EXTRA))
        await asyncio.sleep(0.1)  # several looks of both
        assert Counted.loads == 1


async def test_a_model_that_cannot_be_loaded_here_is_loaded_elsewhere(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(Faulty, "loads", 0)
    async with working(site, "a", Faulty):
        await wait_until(lambda: live(site, MODEL))
        await request_load(site.broker, EXTRA, "load")
        await wait_until(lambda: Faulty.loads)
        await asyncio.sleep(0.1)
        assert Faulty.loads == 1
        await wait_until(lambda: live(site, MODEL))  # the other model goes on
        assert (await load_request_of(site.broker, EXTRA)).startswith("load")
        async with working(site, "b", Counted):
            await wait_until(lambda: live(site, EXTRA))

            async def met() -> bool:  # the worker announces the model first, and takes the request back afterwards
                return not await load_request_of(site.broker, EXTRA)

            await wait_until(met)


async def ask(site: Site, *ids: str, tokens: int = 8, model: ModelName = EXTRA) -> None:
    """Submit jobs, of the model that comes on demand if no other is named."""
    envelope = jobs.Envelope(GatewayId("nobody"), "acme", "default", timeout_ms=60_000, retention_ms=60_000)
    for id in ids:
        await jobs.submit(site.broker, model, envelope, [jobs.NewJob(JobId(id), request(tokens))])


async def test_a_second_worker_loads_a_model_that_keeps_the_first_one_busy(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(Counted, "loads", 0)
    async with working(site, "a", Counted, rate=1), working(site, "b", Counted, rate=1):
        await wait_until(lambda: live(site, MODEL))
        await ask(site, "first", tokens=1000)
        await wait_until(lambda: live(site, EXTRA))
        await asyncio.sleep(0.2)  # ten looks of both, while nobody waits
        assert Counted.loads == 1
        await ask(site, "second", tokens=1000)

        async def both() -> bool:
            return await live(site, EXTRA) == 2

        await wait_until(both)
        assert Counted.loads == 2


async def test_every_replica_of_an_unloaded_model_comes_back_when_it_is_needed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "LOOK_EVERY", 0.02)

    def replicas(wanted: int) -> Callable[[], Awaitable[bool]]:
        async def reached() -> bool:
            return await live(site, MODEL) == wanted

        return reached

    async with AsyncExitStack() as workers:
        for name in ("a", "b", "c"):
            await workers.enter_async_context(working(site, name, Counted, rate=1, slots=1))
        await wait_until(replicas(3))
        await request_load(site.broker, MODEL, "unload")
        await wait_until(replicas(0))
        await ask(site, "first", tokens=1000, model=MODEL)
        await wait_until(replicas(1))
        await ask(site, *(f"more-{number}" for number in range(11)), tokens=1000, model=MODEL)
        await wait_until(replicas(3))


async def test_a_worker_whose_model_was_unloaded_counts_as_one_that_can_load_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "LOOK_EVERY", 0.02)

    async def loaders() -> list[str]:
        return [loader.worker for loader in (await model_info(site.broker, MODEL)).loaders]

    async def unloaded() -> bool:
        return await live(site, MODEL) == 0

    async with working(site, "a", Counted):
        await wait_until(lambda: live(site, MODEL))
        assert await loaders() == []
        await request_load(site.broker, MODEL, "unload")
        await wait_until(unloaded)
        assert await wait_until(loaders) == ["a"]
        assert await show_workers(WorkersSettings(redis_url=site.broker.url, here=True)) == 0
        await request_load(site.broker, MODEL, "load")
        await wait_until(lambda: live(site, MODEL))

        async def none() -> bool:
            return await loaders() == []

        await wait_until(none)
    assert [loader.worker for loader in (await model_info(site.broker, EXTRA)).loaders] == []
    assert await show_workers(WorkersSettings(redis_url=site.broker.url, here=True)) == 1
