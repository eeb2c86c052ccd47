"""A small cluster in one process, for measuring decisions rather than machines: simulated workers, one gateway's queue,
a real Valkey."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.jobs import Envelope, NewJob, read, submit
from millstream.common.broker.models.directory import model_info
from millstream.common.chunk import Chunk
from millstream.common.job import ChatPrompt, GatewayId, JobId, JobRequest, ModelName, Sampling, Tier, WorkerId
from millstream.gateway.queue.client import Submission
from millstream.gateway.queue.connected import connected_queue
from millstream.gateway.queue.redis_client import RedisQueueClient, Terms
from millstream.gateway.queue.sink import CallbackSink
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.service.service import ModelService
from millstream.worker.settings import WorkerSettings

LOOK_EVERY = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class Served:
    """One answer: seconds to its first token and to its last, who gave it, how many tokens."""

    first: float
    last: float
    worker: str
    tokens: int


class InProcessCluster:
    """A cluster in this process. Its workers and its gateway live until the scope ends."""

    def __init__(self, broker: Broker, queue: RedisQueueClient, scope: AsyncExitStack) -> None:
        self.broker = broker
        self._dispatch = queue
        self._scope = scope

    async def worker(self, model: str, name: str, *, slots: int, rate: float, first_token: float = 0.0) -> None:
        """Serves with a worker; `rate` is tokens/s of each job, `first_token` the seconds of its prefill."""
        engine = SimulatedEngine(SimulatedSettings(model, slots, first_token, rate))
        settings = WorkerSettings(redis_url=self.broker.url, drain=0)
        service = ModelService(self.broker, WorkerId(name), engine, engine.load(), settings)
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop))

        async def leave() -> None:
            stop.set()
            await task
            engine.close()

        self._scope.push_async_callback(leave)
        while not (await model_info(self.broker, ModelName(model))).live:  # noqa: ASYNC110 (Redis rings no event)
            await asyncio.sleep(LOOK_EVERY)

    async def ask(self, model: str, tokens: int, tier: Tier = "default", tenant: str = "chat") -> Served:
        """Follows one job from submission to its last token."""
        name, id = ModelName(model), JobId(f"job-{secrets.token_hex(8)}")
        sampling = Sampling(max_tokens=tokens, ignore_eos=True)
        request = JobRequest(ChatPrompt([{"role": "user", "content": "hello"}]), sampling)
        began, first, made = monotonic(), 0.0, 0
        await self._dispatch.submit(Submission(name, [(id, request)], tenant, tier))

        def take(chunk: Chunk) -> None:
            nonlocal first, made
            made += len(chunk.ids)
            first = first or (monotonic() - began if chunk.ids else 0.0)

        await self._dispatch.follow(name, id, CallbackSink(take), tenant=tenant)
        last = monotonic() - began
        return Served(first, last, (await read(self.broker, name, id)).get("worker", ""), made)


async def leave_work(broker: Broker, model: str, tier: Tier, count: int, tokens: int) -> None:
    """Leaves jobs of two tenants that nobody follows: their results would be read later."""
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    for number in range(count):
        tenant = f"grinder-{number % 2}"
        terms = Envelope(GatewayId("nobody"), tenant, tier, timeout_ms=600_000, retention_ms=1000, resumable=True)
        job = NewJob(JobId(f"work-{number}"), JobRequest(ChatPrompt([{"role": "user", "content": "work"}]), sampling))
        await submit(broker, ModelName(model), terms, [job])


@asynccontextmanager
async def in_process_cluster(directory: Path, **terms: Any) -> AsyncGenerator[InProcessCluster]:
    """Opens an empty cluster around a Valkey of its own."""
    async with EmbeddedValkey(directory) as valkey, Broker(valkey.url) as broker, AsyncExitStack() as scope:
        queue = connected_queue(broker, Terms(**terms))
        scope.push_async_callback(_end, [asyncio.ensure_future(loop()) for loop in queue.loops.values()])
        yield InProcessCluster(broker, queue.client, scope)


async def _end(loops: list[asyncio.Future[None]]) -> None:
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
