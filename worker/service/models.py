"""The models of one worker process: those that are there from the start, and those that come and go on demand."""

import asyncio
import os
from collections.abc import Sequence
from time import monotonic

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.models.directory import announce, model_info
from millstream.common.broker.models.load_requests import (
    LOADING_MS,
    OFFER_MS,
    ModelLoader,
    begin_loading,
    end_loading,
    load_request_of,
    offer,
    tell_loading,
)
from millstream.common.broker.models.unused_names import withdraw_name
from millstream.common.errors import MillstreamError
from millstream.common.job import ModelName, WorkerId
from millstream.common.process.command import host_name
from millstream.common.process.tasks import TaskGroup
from millstream.common.tracing.span import SpanWriter
from millstream.worker.engines.base import Engine, ModelCard
from millstream.worker.service.registry import ModelOffer
from millstream.worker.service.service import ModelService
from millstream.worker.settings import WorkerSettings

LOOK_EVERY = 1.0  # seconds between two looks at the load requests
LEAVING = 2.0  # seconds that a worker which could not load spends on saying so
PRESSED = 3  # such looks at a model whose workers are all busy, until another worker loads it too
RETRY_AFTER = 60.0  # seconds until a model that could not be loaded is tried again

log = structlog.stdlib.get_logger(part="roster")


class Entry:
    """One model of the worker: what it can serve, and what serves it now."""

    def __init__(self, offer: ModelOffer) -> None:
        self.offer = offer
        self.name = ModelName(offer.name or "")
        self.engine: Engine | None = None
        self.card: ModelCard | None = None
        self.service: ModelService | None = None
        self.running: asyncio.Task[None] | None = None
        self.stop = asyncio.Event()
        self.seen = ""  # the load request that stood when it was loaded: fulfilled, or older than it
        self.not_before = 0.0  # monotonic time of the next try after a failure
        self.stage = "beginning"
        self.pressed = 0  # looks in a row at which requests waited and every worker that has it was busy

    def progress(self, stage: str, fraction: float | None) -> None:
        """Writes one line of the log for each stage of loading; `up` draws its bar from them."""
        self.stage = stage
        log.info("loading", stage=stage, fraction=fraction)

    async def load(self, stop: asyncio.Event) -> bool:
        """Loads in a thread; False if `stop` came first, and then the thread is still at it."""
        loading = asyncio.create_task(asyncio.to_thread(self._make_and_load))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            return False
        engine, self.card = loading.result()
        card, self.name = self.card, ModelName(self.card.name)
        slots, length = engine.slots, card.context_length
        log.info("loaded", model=card.name, engine=card.engine, context_length=length, slots=slots)
        return True

    def _make_and_load(self) -> tuple[Engine, ModelCard]:
        """Makes the engine and loads it, in a thread: which engine it is may have to be fetched as well."""
        self.engine = engine = self.offer.make(progress=self.progress)
        return engine, engine.load(self.progress)

    async def close(self) -> None:
        """Frees what the engine holds."""
        engine, self.engine, self.card, self.service = self.engine, None, None, None
        if engine is not None and not (engine.kind == "tokens" and engine.broken):
            await asyncio.to_thread(engine.close)


class WorkerModels:
    """Loads, serves and unloads. `loading` tells whether a thread is loading a model that nobody waits for any more."""

    def __init__(
        self,
        broker: Broker,
        worker: WorkerId,
        settings: WorkerSettings,
        offers: list[ModelOffer],
        spans: SpanWriter | None = None,
    ) -> None:
        self._spans = spans
        self._broker = broker
        self._worker = worker
        self._settings = settings
        self._entries = [Entry(offer) for offer in offers]
        self._loader = ModelLoader(worker, host_name(), os.getpid())
        self.loading = False

    async def load_residents(self, stop: asyncio.Event) -> bool:
        """Loads the models that are there from the start; False if told to stop meanwhile. Raises `MillstreamError`."""
        for entry in self._entries:
            if entry.offer.resident and not await self._load_resident(entry, stop):
                return False
        return True

    async def _load_resident(self, entry: Entry, stop: asyncio.Event) -> bool:
        """Loads it while its name is known already: requests for it wait for this worker instead of failing."""
        expected = ModelName(entry.offer.name or entry.offer.expected or "")
        others = self._settings.served_model_name[1:] if entry is self._entries[0] else []
        telling = asyncio.create_task(self._tell_start(entry, expected, others))
        loaded = False
        try:
            loaded = await entry.load(stop)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            if expected:
                await self._told_start(expected, withdraw=not loaded or entry.name != expected)
        return loaded

    async def _tell_start(self, entry: Entry, expected: ModelName, others: Sequence[str]) -> None:
        while expected:
            try:
                await announce(self._broker, expected, others)
                await tell_loading(self._broker, expected, self._worker, entry.stage)
            except RedisAway:
                pass  # the first heartbeat says it
            await asyncio.sleep(LOADING_MS / 5000)

    async def _told_start(self, expected: ModelName, *, withdraw: bool) -> None:
        try:
            async with asyncio.timeout(LEAVING):
                await end_loading(self._broker, expected, fulfilled=False)
                if withdraw:
                    await withdraw_name(self._broker, expected)
        except (RedisAway, TimeoutError):
            pass  # both lapse by themselves

    async def serve(self, stop: asyncio.Event) -> None:
        """Serves until `stop`, then every model drains. Raises `EngineGone` in a group."""
        try:
            async with TaskGroup() as services:
                for entry in self._entries:
                    if entry.card is not None:
                        await self._start(entry, services)
                while not stop.is_set():
                    await self._look_at_all(services, stop)
                    await _pause(stop, LOOK_EVERY)
                for entry in self._entries:
                    entry.stop.set()
        finally:
            await self._withdraw_offers()
            for entry in self._entries:
                if not (self.loading and entry.card is None):
                    await entry.close()

    async def _withdraw_offers(self) -> None:
        try:
            async with asyncio.timeout(OFFER_MS / 1000):
                for entry in self._entries:
                    await offer(self._broker, entry.name, self._loader, gone=True)
        except (RedisAway, TimeoutError):
            pass  # they lapse by themselves

    async def _start(self, entry: Entry, services: TaskGroup) -> None:
        assert entry.engine is not None
        assert entry.card is not None
        try:
            entry.seen = await load_request_of(self._broker, entry.name)
        except RedisAway:
            entry.seen = ""
        entry.stop = asyncio.Event()
        known = (self._broker, self._worker, entry.engine, entry.card, self._settings)
        entry.service = ModelService(*known, self._spans)
        entry.running = services.create_task(entry.service.run(entry.stop), name=f"serve {entry.name}")

    # ------------------------------------------------------------------------------------------------ coming and going

    async def _look_at_all(self, services: TaskGroup, stop: asyncio.Event) -> None:
        for entry in self._entries:
            try:
                if entry.service is not None:
                    await self._perhaps_unload(entry)
                elif monotonic() >= entry.not_before:
                    await self._perhaps_load(entry, services, stop)
            except RedisAway:
                return  # the next look is soon

    async def _perhaps_unload(self, entry: Entry) -> None:
        assert entry.service is not None
        request = await load_request_of(self._broker, entry.name)
        asked = request.startswith("unload") and request != entry.seen
        limit = self._settings.idle_unload
        idle = limit > 0 and not entry.offer.resident and entry.service.idle > limit
        if asked or idle:
            log.info("unloading", model=entry.name, why="asked" if asked else "idle")
            entry.stop.set()
            if entry.running is not None:
                await entry.running
            await entry.close()
            log.info("unloaded", model=entry.name)

    async def _perhaps_load(self, entry: Entry, services: TaskGroup, stop: asyncio.Event) -> None:
        await announce(self._broker, entry.name)  # so that requests for it wait instead of failing
        await offer(self._broker, entry.name, self._loader)
        if not await self._wanted(entry) or not await begin_loading(self._broker, entry.name, self._worker):
            return
        self.loading = True
        telling = asyncio.create_task(self._tell(entry))
        try:
            if not await entry.load(stop):
                return
        except MillstreamError as error:
            log.error("cannot_load", model=entry.name, error=error.message)
        except Exception:  # a model's own code may raise anything; the other models go on
            log.exception("cannot_load", model=entry.name)
        finally:
            telling.cancel()
        self.loading = False
        if entry.card is None:
            entry.engine, entry.not_before = None, monotonic() + RETRY_AFTER
        else:
            await self._start(entry, services)
            entry.pressed = 0
            await self._signed_in(entry, stop)
            await offer(self._broker, entry.name, self._loader, gone=True)
        await end_loading(self._broker, entry.name, fulfilled=entry.card is not None)

    async def _signed_in(self, entry: Entry, stop: asyncio.Event) -> None:
        """Waits until its first heartbeat: before it others see nobody serve the model, and would load it too."""
        assert entry.service is not None
        either = [asyncio.create_task(event.wait()) for event in (entry.service.signed_in, stop)]
        await asyncio.wait(either, timeout=LOADING_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
        for task in either:
            task.cancel()

    async def _wanted(self, entry: Entry) -> bool:
        """Tells whether somebody asked for it to be loaded, or requests wait and no worker has it, or all that have it
        were busy at each of the last looks."""
        if (await load_request_of(self._broker, entry.name)).startswith("load"):
            return True
        info = await model_info(self._broker, entry.name)
        busy = all(worker.load >= worker.slots for worker in info.workers if worker.alive)
        entry.pressed = entry.pressed + 1 if info.waiting and busy else 0
        return info.waiting > 0 and (info.live == 0 or entry.pressed >= PRESSED)

    async def _tell(self, entry: Entry) -> None:
        """Says how far the loading is, until cancelled; those who wait are told. Meanwhile nobody looks at the other
        models."""
        while True:
            try:
                for each in self._entries:
                    if each.service is None:
                        await offer(self._broker, each.name, self._loader)
                await tell_loading(self._broker, entry.name, self._worker, entry.stage)
            except RedisAway:
                pass  # it is only news
            await asyncio.sleep(LOADING_MS / 5000)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
