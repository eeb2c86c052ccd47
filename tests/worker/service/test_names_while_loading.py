"""A model's name before its worker is ready, and after its last worker is gone."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from millstream.common.broker import keys
from millstream.common.broker.models import unused_names
from millstream.common.broker.models.directory import announce, model_names, other_names
from millstream.common.broker.models.load_requests import ModelLoader, loading_stage, offer
from millstream.common.broker.models.policy import Policy, read_policy, write_policy
from millstream.common.broker.models.unused_names import UnusedNames, withdraw_name
from millstream.common.errors import MillstreamError
from millstream.common.job import ModelName, WorkerId
from millstream.worker.engines.base import LoadFailed, LoadProgress, ModelCard
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.service.models import WorkerModels
from millstream.worker.service.registry import ModelOffer
from millstream.worker.settings import WorkerSettings
from tests.harness.queue_site import MODEL, Site
from tests.harness.support import wait_until

SLOW = ModelName("slow")
GONE = ModelName("gone")


class HeldBack(SimulatedEngine):
    """Loads when it is let."""

    may = threading.Event()
    broken = False

    def load(self, progress: LoadProgress = lambda stage, fraction: None) -> ModelCard:
        progress("loading the weights", None)
        assert self.may.wait(30)
        if self.broken:
            raise LoadFailed("its files are damaged")
        return super().load(progress)


class HeldBackAndBroken(HeldBack):
    broken = True


@asynccontextmanager
async def loading(site: Site, kind: type[HeldBack]) -> AsyncGenerator["asyncio.Task[bool]"]:
    """A worker that loads its first model, which is called `slow` and `other`."""
    kind.may = threading.Event()
    settings = WorkerSettings(redis_url=site.broker.url, served_model_name=[SLOW, "other"])
    offers = [ModelOffer(None, lambda **_: kind(SimulatedSettings(name=SLOW)), expected=SLOW)]
    models = WorkerModels(site.broker, WorkerId("w"), settings, offers)
    task = asyncio.create_task(models.load_residents(asyncio.Event()))
    try:
        yield task
    finally:
        kind.may.set()
        await asyncio.gather(task, return_exceptions=True)


async def known(site: Site) -> bool:
    return SLOW in await model_names(site.broker)


async def test_a_model_can_be_asked_for_while_its_first_worker_loads_it(site: Site) -> None:
    async with loading(site, HeldBack) as task:
        await wait_until(lambda: known(site))
        await wait_until(lambda: loading_stage(site.broker, SLOW))
        assert await loading_stage(site.broker, SLOW) == "loading the weights"
        assert (await other_names(site.broker))["other"] == SLOW
        HeldBack.may.set()
        assert await task
        assert await known(site)
        assert not await loading_stage(site.broker, SLOW)


async def test_a_model_that_cannot_be_loaded_does_not_stay_listed(site: Site) -> None:
    async with loading(site, HeldBackAndBroken) as task:
        await wait_until(lambda: known(site))
        HeldBackAndBroken.may.set()
        with pytest.raises(MillstreamError, match="damaged"):
            await task
        assert not await known(site)
        assert "other" not in await other_names(site.broker)


async def test_an_unused_name_goes_after_its_time_and_no_sooner(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_names, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(unused_names, "SETTLING", 0.0)
    await announce(site.broker, GONE, ["alias"])
    await write_policy(site.broker, GONE, Policy("prefix"))
    patient, never = UnusedNames(site.broker, 3600), UnusedNames(site.broker, 0)
    for _ in range(2):
        assert GONE not in await patient.look(await model_names(site.broker))
    assert not await never.look(await model_names(site.broker))
    await site.broker.redis.hincrby(keys.UNUSED, GONE, -3600)  # an hour ago, by the server's clock
    assert await patient.look(await model_names(site.broker)) == [GONE]
    assert GONE not in await model_names(site.broker)
    assert not await site.broker.redis.hgetall(keys.NAMES)
    assert (await read_policy(site.broker, GONE)).rule == "prefix"  # what an operator set is there when it comes back


async def test_a_name_that_waits_or_could_be_loaded_stays_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_names, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(unused_names, "SETTLING", 0.0)
    await site.put("j1")  # for the site's own model, which has no worker
    await announce(site.broker, MODEL)
    await announce(site.broker, GONE)
    unused = UnusedNames(site.broker, 1)
    await unused.look(await model_names(site.broker))
    assert await site.broker.redis.hkeys(keys.UNUSED) == [GONE]
    await offer(site.broker, GONE, ModelLoader(WorkerId("w"), "host", 1))
    await site.broker.redis.hincrby(keys.UNUSED, GONE, -3600)
    assert not await unused.look(await model_names(site.broker))
    assert not await site.broker.redis.hkeys(keys.UNUSED)  # it begins anew once nobody offers it any more
    assert not await withdraw_name(site.broker, GONE)
