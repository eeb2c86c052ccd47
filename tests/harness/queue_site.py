"""Many workers and several gateways in one process, around one real queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from millstream.common.broker import jobs, keys, workers
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import announce, model_info
from millstream.common.chunk import Chunk, Seq
from millstream.common.job import ChatPrompt, GatewayId, JobId, JobRequest, ModelName, Sampling, Tier, WorkerId
from millstream.common.tracing.span import SpanWriter
from millstream.gateway.queue.client import QueueClient, Submission
from millstream.gateway.queue.connected import connected_queue
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.redis_client import RedisQueueClient, Terms
from millstream.gateway.queue.sink import CallbackSink
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.service.service import ModelService
from millstream.worker.settings import WorkerSettings
from tests.harness.support import wait_until

MODEL = ModelName("simulated")
RUN = ("frames", "watchdog", "endings")  # loops of a gateway's queue


def request(tokens: int = 8, text: str = "hi") -> JobRequest:
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    return JobRequest(ChatPrompt([{"role": "user", "content": text}]), sampling)


async def chunks_of(queue: QueueClient, job: JobId, *, tenant: str = "default") -> list[Chunk]:
    """All chunks of one job, in order."""
    chunks: list[Chunk] = []
    await queue.follow(MODEL, job, CallbackSink(chunks.append), tenant=tenant)
    return chunks


class Site:
    """Workers that compute, with the simulated engine; `beat` and `claim` make ones that only ask."""

    def __init__(self, broker: Broker, scope: AsyncExitStack) -> None:
        self.broker = broker
        self._scope = scope
        self._made = 0
        self.hubs: list[FrameHub] = []  # of the gateways, the last made last

    async def worker(
        self,
        name: str,
        *,
        slots: int = 4,
        rate: float = 0.0,
        context: int = 131_072,
        spans: SpanWriter | None = None,
        **settings: Any,
    ) -> ModelService:
        """A worker in service; it drains at the end."""
        simulated = SimulatedSettings(MODEL, slots, rate=rate, context_length=context, default_length=1000)
        engine = SimulatedEngine(simulated)
        chosen = WorkerSettings(redis_url=self.broker.url, drain=0, lease=1, **settings)
        service = ModelService(self.broker, WorkerId(name), engine, engine.load(), chosen, spans)
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop))

        async def leave() -> None:
            stop.set()
            await task
            engine.close()

        self._scope.push_async_callback(leave)
        await wait_until(lambda: self._ready(name))
        return service

    async def _ready(self, name: str) -> bool:
        info = await model_info(self.broker, MODEL)
        return any(each.id == name and each.alive for each in info.workers)

    async def gateway(
        self, *, watchful: bool = True, spans: SpanWriter | None = None, **terms: Any
    ) -> RedisQueueClient:
        """A gateway's queue, with its reader and its watchdog."""
        queue = connected_queue(self.broker, Terms(**terms), 0.2, spans)
        self.hubs.append(queue.hub)
        loops = [queue.loops[name] for name in queue.loops if name in RUN and (watchful or name != "watchdog")]
        tasks = [asyncio.ensure_future(loop()) for loop in loops]

        async def leave() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._scope.push_async_callback(leave)
        return queue.client

    def submission(self, tokens: int = 8, **changes: Any) -> Submission:
        self._made += 1
        return Submission(MODEL, [(JobId(f"job-{self._made}"), request(tokens))], **changes)

    # -------------------------------------------------------------------------------------- without any engine

    async def beat(self, name: str, **about: str) -> WorkerId:
        fields = {"slots": "1", "speed": "10", "state": "ready", **about}
        await announce(self.broker, MODEL)
        await workers.beat(self.broker, MODEL, WorkerId(name), 60_000, fields, [])
        return WorkerId(name)

    async def put(self, *ids: str, tenant: str = "acme", tier: Tier = "default", **changes: Any) -> jobs.Submitted:
        """Submit jobs without following them."""
        values: dict[str, Any] = {"timeout_ms": 60_000, "retention_ms": 60_000, **changes}
        envelope = jobs.Envelope(GatewayId("nobody"), tenant, tier, **values)
        return await jobs.submit(self.broker, MODEL, envelope, [jobs.NewJob(JobId(id), request()) for id in ids])

    async def claim(self, worker: str, room: int = 1) -> list[workers.Claimed]:
        return (await workers.claim(self.broker, MODEL, WorkerId(worker), room)).jobs

    async def finish(self, worker: str, claimed: workers.Claimed, tokens: int = 10) -> None:
        end = workers.End("finished", "stop", b"{}", tokens)
        made = workers.JobStep(claimed.id, claimed.lease, Seq(claimed.seq + 1), [], end)
        await workers.step(self.broker, MODEL, WorkerId(worker), [made])

    async def load(self) -> dict[str, float]:
        return dict(await self.broker.redis.zrange(keys.load(MODEL), 0, -1, withscores=True))

    async def job(self, id: str) -> dict[str, str]:
        return await jobs.read(self.broker, MODEL, JobId(id))


@asynccontextmanager
async def open_site(url: str) -> AsyncIterator[Site]:
    async with Broker(url) as broker, AsyncExitStack() as scope:
        yield Site(broker, scope)
