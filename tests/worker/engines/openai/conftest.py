"""Workers in front of scripted upstreams, around a real queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from millstream.common.broker.models.directory import model_info
from millstream.common.chunk import Chunk
from millstream.common.errors import from_failure
from millstream.common.job import ChatPrompt, JobId, JobRequest, ModelName, Sampling, WorkerId
from millstream.gateway.queue.client import Submission
from millstream.gateway.queue.redis_client import RedisQueueClient
from millstream.gateway.queue.sink import CallbackSink
from millstream.worker.engines.base import Engine
from millstream.worker.engines.openai import pool as upstreams
from millstream.worker.engines.openai.engine import OpenAIEngine
from millstream.worker.engines.openai.settings import UpstreamSettings
from millstream.worker.service.service import ModelService
from millstream.worker.settings import WorkerSettings
from tests.harness.queue_site import Site
from tests.harness.scripted_upstream import MODEL, ScriptedUpstream, Turn, open_upstream
from tests.harness.support import wait_until

NAME = ModelName(MODEL)
USER = [{"role": "user", "content": "hi"}]
GREEDY = Sampling(temperature=0)


class UpstreamRig:
    """Upstreams, workers in front of them, and a client that reads to the end."""

    def __init__(self, site: Site, scope: AsyncExitStack, client: RedisQueueClient) -> None:
        self.site = site
        self._scope = scope
        self._client = client
        self._made = 0

    async def upstream(self, *turns: Turn, port: int = 0, **changes: object) -> ScriptedUpstream:
        made = ScriptedUpstream(**changes)  # type: ignore[arg-type]
        made.turns.extend(turns)
        return await self.serve_upstream(made, port)

    async def serve_upstream(self, made: ScriptedUpstream, port: int = 0) -> ScriptedUpstream:
        return await self._scope.enter_async_context(open_upstream(made, port))

    async def worker(self, *at: ScriptedUpstream, name: str = "w", **changes: object) -> ModelService:
        """A worker in service, in front of these."""
        urls = tuple(upstream.url for upstream in at)
        return await self.serve(OpenAIEngine(UpstreamSettings(urls=urls, **changes)), name)  # type: ignore[arg-type]

    async def serve(self, engine: Engine, name: str = "w") -> ModelService:
        """A worker in service, with this engine."""
        card = await asyncio.to_thread(engine.load)
        settings = WorkerSettings(redis_url=self.site.broker.url, drain=0, lease=1)
        service, stop = ModelService(self.site.broker, WorkerId(name), engine, card, settings), asyncio.Event()
        task = asyncio.create_task(service.run(stop))

        async def leave() -> None:
            stop.set()
            await task
            await asyncio.to_thread(engine.close)

        self._scope.push_async_callback(leave)
        await wait_until(lambda: self.live(name))
        return service

    async def live(self, name: str) -> bool:
        info = await model_info(self.site.broker, NAME)
        return any(each.id == name and each.alive for each in info.workers)

    async def state(self, name: str = "w") -> str:
        info = await model_info(self.site.broker, NAME)
        return next(each.details["state"] for each in info.workers if each.id == name)

    async def submit(self, request: JobRequest | None = None) -> JobId:
        self._made += 1
        id = JobId(f"job-{self._made}")
        await self._client.submit(Submission(NAME, [(id, request or JobRequest(ChatPrompt(USER), GREEDY))]))
        return id

    async def chunks(self, id: JobId) -> AsyncIterator[Chunk]:
        """Yields what a client sees. Raises the job's error."""
        heard: asyncio.Queue[Chunk] = asyncio.Queue()
        sink = CallbackSink(heard.put_nowait)
        reading = asyncio.create_task(self._client.follow(NAME, id, sink, tenant="default"))
        try:
            last = False
            while not last:
                chunk = await heard.get()
                last = chunk.last
                if chunk.error is not None:
                    raise from_failure(chunk.error)
                yield chunk
        finally:
            reading.cancel()

    async def read(self, request: JobRequest | None = None) -> list[Chunk]:
        return [chunk async for chunk in self.chunks(await self.submit(request))]


def words(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def said(count: int) -> str:
    return "".join(f"w{number} " for number in range(count))


@pytest_asyncio.fixture
async def rig(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UpstreamRig]:
    monkeypatch.setattr(upstreams, "LONGEST_PAUSE", 0.1)
    async with AsyncExitStack() as scope:
        yield UpstreamRig(site, scope, await site.gateway())
