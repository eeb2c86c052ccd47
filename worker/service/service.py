"""One model on one engine, in service: the loops that claim, run, send and beat, and how they end."""

import asyncio
import json
import os
import platform
import time
from collections.abc import Coroutine, Mapping
from functools import partial
from importlib.metadata import version
from time import monotonic
from typing import Any

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.control import ControlChannel, Doorbell
from millstream.common.broker.workers import Claimed, StepAnswer, evict_now, handoff, withdraw
from millstream.common.errors import EngineError
from millstream.common.job import ModelName, WorkerId
from millstream.common.process.backoff import Backoff
from millstream.common.process.tasks import TaskGroup
from millstream.common.tracing.span import SpanWriter
from millstream.worker.engines.base import Engine, ModelCard
from millstream.worker.jobs.attempt_spans import AttemptSpans
from millstream.worker.jobs.consumer import Consumer
from millstream.worker.jobs.drivers.choice import driver_of
from millstream.worker.jobs.outbox import Outbox
from millstream.worker.jobs.runner import Runner
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs, left_by
from millstream.worker.service.heartbeat import Heartbeat
from millstream.worker.service.offered_names import on_demand
from millstream.worker.service.preemption import Preemption
from millstream.worker.service.presence import Presence
from millstream.worker.settings import WorkerSettings
from millstream.worker.text.parsers.formats import FORMATS

HEALTH_EVERY = 0.25  # seconds between two looks at the engine
HANDED_BACK = 32  # unclaimed jobs one `handoff` gives back
LEAVE_PATIENCE = 5.0  # seconds a leaving worker waits for a Redis that is away; after that it is evicted in time

log = structlog.stdlib.get_logger(part="worker")


class EngineGone(EngineError):
    """The engine can make no more tokens: the process must end and start anew."""


class ModelService:
    """Serves one model until told to stop."""

    def __init__(
        self,
        broker: Broker,
        worker: WorkerId,
        engine: Engine,
        card: ModelCard,
        settings: WorkerSettings,
        spans: SpanWriter | None = None,
    ) -> None:
        """Serves the model that `engine` has loaded. `spans`: where those of its jobs go, None while nothing is
        traced."""
        self._broker = broker
        self._worker = worker
        self._card = card
        self._settings = settings
        self.model = ModelName(card.name)
        self._started = int(time.time())
        self._state = "ready"
        told = AttemptSpans(spans, content=settings.trace_content).tell if spans is not None else None
        self._running_jobs = RunningJobs(told)
        self._outbox = Outbox(broker, self.model, worker, self._running_jobs, self._on_answer)
        self._heartbeat = Heartbeat(broker, self.model, worker, settings)
        notation = FORMATS[settings.tool_parser] if settings.tool_parser else None
        driver = driver_of(engine, card, broker, self._running_jobs, notation)
        self._runner = Runner(broker, worker, self._running_jobs, self._outbox, driver, settings.max_attempts)
        self._driver = self._runner.driver
        self._preemption = Preemption(broker, self.model, worker, self._running_jobs, self._outbox.settle)
        self._consumer = Consumer(broker, self.model, worker, self._running_jobs, self._slots, self._runner)

    def _slots(self) -> int:
        return self._driver.slots

    @property
    def signed_in(self) -> asyncio.Event:
        """Returns the event that is set once Redis knows that this worker serves the model."""
        return self._heartbeat.signed_in

    @property
    def idle(self) -> float:
        """Returns the seconds since this model had its last job; 0 while it has one."""
        return self._running_jobs.idle

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains. Raises `EngineGone` after moving all jobs elsewhere."""
        self._driver.start()
        bell = Doorbell(self._broker.of(self.model).url, self.model, self._worker)
        control = ControlChannel(self._broker.of(self.model).url, self._worker)
        try:
            async with TaskGroup() as loops:
                beating = loops.keep(partial(self._heartbeat.run, self._running_jobs, self), "heartbeat")
                background = [
                    loops.keep(self._outbox.run, "outbox"),
                    loops.keep(Presence(self._broker, self.model, self._heartbeat.names).run, "presence"),
                    loops.keep(self._consumer.run, "consumer"),
                    loops.keep(partial(self._consumer.listen, bell), "doorbell"),
                    loops.keep(partial(self._obey, control), "control"),
                    loops.keep(self._runner.run, "beginnings"),
                    loops.keep(partial(self._preemption.run, self._driver.forget), "preemption"),
                ]
                await self._serve(stop, beating)
                for task in background:
                    task.cancel()
        finally:
            await bell.aclose()

    async def _serve(self, stop: asyncio.Event, beating: asyncio.Task[None]) -> None:
        """Serves. Heartbeats go on to the very end, but not beyond the last call: another would sign in
        again."""
        try:
            await self._watch_engine(stop)
            await self._drain()
            beating.cancel()
            if await self._leave(withdraw(self._broker, self.model, self._worker)):
                for job in self._running_jobs:
                    self._running_jobs.remove(job, "handed_over")
            log.info("worker_left", model=self.model, worker=self._worker)
        except EngineGone:
            beating.cancel()
            await self._leave(evict_now(self._broker, self.model, self._worker, self._settings.max_attempts))
            raise

    # ------------------------------------------------------------------------------------------------ what a beat says

    def about(self) -> Mapping[str, str]:
        """Returns the heartbeat hash."""
        stats = self._driver.stats()
        self._runner.pace.measure(stats.running)
        return {
            "state": self._state,
            "slots": str(self._driver.slots),
            "speed": f"{self._runner.pace.speed * self._driver.slots:.3f}",
            "job_seconds": f"{self._runner.pace.job_seconds:.3f}",
            "running": str(stats.running),
            "steps": str(stats.steps),
            "tokens": str(self._runner.pace.tokens),
            "continued": str(self._runner.pace.continued),
            "wasted": str(self._runner.pace.wasted),
            "kv_use": f"{stats.kv_use:.4f}",
            "prefix_hit_rate": f"{stats.prefix_hit_rate:.4f}",
            "engine": self._card.engine,
            "context_length": str(self._card.context_length),
            "fingerprint": self._card.fingerprint,
            "capabilities": " ".join(self._card.capabilities),
            "defaults": json.dumps(dict(self._card.defaults)),
            "host": platform.node(),
            "pid": str(os.getpid()),
            "started": str(self._started),
            "on_demand": " ".join(name for name, _ in on_demand(self._settings)),
            "version": version("millstream"),
            "exactness": " ".join(f"{kind}={level}" for kind, level in self._card.exactness.items()),
            **self._card.details,
        }

    def adopt(self, claimed: Claimed) -> None:
        self._consumer.take(claimed)

    def drop(self, job: RunningJob) -> None:
        self._runner.drop(job)

    def cancel(self, job: RunningJob) -> None:
        self._runner.cancel(job)

    def preempt(self, job: RunningJob) -> None:
        self._preemption.ask(job)

    def wake(self) -> None:
        self._consumer.wake()

    def _on_answer(self, job: RunningJob, answer: StepAnswer) -> None:
        match answer:
            case "cancel":
                self.cancel(job)
            case "preempt":
                self.preempt(job)
            case _:
                self.drop(job)

    async def _obey(self, control: ControlChannel) -> None:
        """Cancels and gives back as soon as it is hinted."""
        backoff = Backoff()
        while True:
            try:
                async for verb, id in control.hints():
                    if job := self._running_jobs.by_id(id):
                        self.cancel(job) if verb == "cancel" else self.preempt(job)
            except RedisAway:
                await backoff.sleep()

    # ---------------------------------------------------------------------------------------------------------- health

    async def _watch_engine(self, stop: asyncio.Event) -> None:
        """Watches the engine until `stop`, and pauses it while Redis is away for long. Raises `EngineGone` if it broke
        or hangs."""
        steps, moved = -1, monotonic()
        while not stop.is_set():
            stats = self._driver.stats()
            if stats.steps != steps or not stats.running:
                steps, moved = stats.steps, monotonic()
            if self._driver.broken is not None:
                raise EngineGone(f"The engine broke: {self._driver.broken}")
            if self._driver.steps and monotonic() - moved > self._settings.stall:
                raise EngineGone(f"The engine has made no step for {self._settings.stall:g} s with work to do.")
            away = self._outbox.away_since
            await self._rest_if(self._runner.health.sick(monotonic()) or not self._driver.slots)
            self._driver.pause_if(away is not None and monotonic() - away > self._settings.decode_ahead)
            try:
                async with asyncio.timeout(HEALTH_EVERY):
                    await stop.wait()
            except TimeoutError:
                pass

    async def _rest_if(self, sick: bool) -> None:
        """Rests while the engine is sick: this worker takes no more jobs, and what lies in its inbox goes to others."""
        if sick != self._consumer.resting:
            log.warning("engine_sick" if sick else "engine_tried_again", model=self.model, worker=self._worker)
            self._consumer.resting = sick
            self._state = "sick" if sick else "ready"
            self._heartbeat.soon()
        if sick:
            await self._leave(handoff(self._broker, self.model, self._worker, []))

    # ----------------------------------------------------------------------------------------------------------- leave

    async def _drain(self) -> None:
        """Claims nothing more, lets running jobs end within the window, hands over the rest in mid-stream, and
        leaves."""
        log.info("worker_draining", model=self.model, worker=self._worker, jobs=len(self._running_jobs))
        self._state = "draining"
        self._consumer.draining = True
        await self._leave(self._close_inbox())
        try:
            async with asyncio.timeout(self._settings.drain):
                while len(self._running_jobs):
                    self._running_jobs.gone.clear()
                    await self._running_jobs.gone.wait()
        except TimeoutError:
            await self._leave(self._hand_over())

    async def _close_inbox(self) -> None:
        """Gives back what was handed to us, after letting the change be known: in the other order a job could come in
        between and would wait here for the whole window."""
        await self._heartbeat.once(self._running_jobs, self)
        for _ in range(1 + self._driver.slots // HANDED_BACK):
            await handoff(self._broker, self.model, self._worker, [])

    async def _hand_over(self) -> None:
        """Hands the jobs over. What was made so far goes to the log first, so that the next worker goes on from
        there."""
        jobs = list(self._running_jobs)
        for job in jobs:
            self._driver.forget(job)
        await self._outbox.settle()
        jobs = [job for job in jobs if self._running_jobs.has(job)]
        held = [(job.claimed.id, job.claimed.lease) for job in jobs]
        log.info("jobs_handed_over", model=self.model, worker=self._worker, jobs=[id for id, _ in held])
        replies = await handoff(self._broker, self.model, self._worker, held)
        for job, reply in zip(jobs, replies, strict=True):
            self._running_jobs.remove(job, left_by(reply, "handed_over"))

    async def _leave(self, last_call: Coroutine[Any, Any, object]) -> bool:
        """Says something before going. Tells whether Redis was there to hear it."""
        try:
            async with asyncio.timeout(LEAVE_PATIENCE):
                await last_call
        except (RedisAway, TimeoutError) as error:
            log.warning("worker_left_unannounced", model=self.model, worker=self._worker, error=str(error))
            return False
        return True
