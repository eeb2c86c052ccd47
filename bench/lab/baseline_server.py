"""The baseline: the usual way of streaming tokens. One process holds the engine and answers with FastAPI, sse-starlette
and json, with no queue between. Run as `python -m bench.lab.baseline_server --port 8001`."""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, Request
from sse_starlette.sse import EventSourceResponse

from millstream.common.job import Sampling
from millstream.common.process import loop
from millstream.worker.engines.base import Output, SequenceKey, SequenceSpec
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings


class BaselineServer:
    """The engine with one queue per request."""

    def __init__(self, settings: SimulatedSettings) -> None:
        self.settings = settings
        self.engine = SimulatedEngine(settings)
        self._queues: dict[SequenceKey, asyncio.Queue[Output]] = {}

    def start(self) -> None:
        """Starts on the running loop."""
        self.engine.load()
        self.engine.start(self._sink)

    def _sink(self, outputs: list[Output]) -> None:
        for output in outputs:
            if output.key in self._queues:
                self._queues[output.key].put_nowait(output)

    async def texts(self, body: dict[str, Any]) -> AsyncGenerator[tuple[str, str | None]]:
        """Yields each token's text, and why it was the last."""
        tokenizer, key = self.engine.tokenizer, SequenceKey(uuid4().hex)
        prompt = tokenizer.chat(body["messages"], [], go_on=False, kwargs={})
        longest = body.get("max_tokens") or self.settings.default_length
        queue = self._queues[key] = asyncio.Queue[Output]()
        self.engine.add(SequenceSpec(key, prompt, Sampling(seed=body.get("seed") or 0), longest))
        try:
            finish = None
            while finish is None:
                output = await queue.get()
                finish = output.finish
                yield tokenizer.decode([output.token]), finish
        finally:
            self.engine.abort(key)
            del self._queues[key]


def _chunk(head: dict[str, Any], delta: dict[str, str], finish: str | None) -> dict[str, str]:
    return {"data": json.dumps({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})}


async def _events(baseline: BaselineServer, body: dict[str, Any]) -> AsyncGenerator[dict[str, str]]:
    head = {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body["model"],
    }
    yield _chunk(head, {"role": "assistant", "content": ""}, None)
    count, reason = 0, None
    async for text, finish in baseline.texts(body):
        count, reason = count + 1, finish
        yield _chunk(head, {"content": text}, None)
    yield _chunk(head, {}, reason)
    usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
    yield {"data": json.dumps({**head, "choices": [], "usage": usage})}
    yield {"data": "[DONE]"}


def app_of(baseline: BaselineServer) -> FastAPI:
    """Returns the whole server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        baseline.start()
        yield
        baseline.engine.close()

    app = FastAPI(lifespan=lifespan)

    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": baseline.settings.name, "object": "model", "owned_by": "baseline"}]}

    async def chat(request: Request) -> Any:
        body = await request.json()
        if body.get("stream"):
            return EventSourceResponse(_events(baseline, body))
        text = "".join([text async for text, _ in baseline.texts(body)])
        message = {"role": "assistant", "content": text}
        return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}

    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.get("/v1/models")(models)
    app.get("/health")(health)
    app.post("/v1/chat/completions", response_model=None)(chat)
    return app


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="A direct server for the simulated engine, to measure against.")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--slots", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=50.0)
    given = parser.parse_args()
    baseline = BaselineServer(SimulatedSettings(slots=given.slots, rate=given.rate))
    config = uvicorn.Config(app_of(baseline), port=given.port, log_level="warning", access_log=False, backlog=4096)
    loop.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
