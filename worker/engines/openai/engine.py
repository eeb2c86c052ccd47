"""Upstreams as one text engine: each request goes to the one with most room, and on to another if that dies."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Literal

import httpx

from millstream.common.chunk import Chunk, Result, Start
from millstream.common.errors import BadRequest
from millstream.common.job import EmbedInput, RerankInput, TokenizeInput, WorkInput
from millstream.worker.engines.base import EngineStats, LoadProgress, ModelCard, TextSpec, silent
from millstream.worker.engines.openai.computing import computing_body, counted_by, parts, read_computed
from millstream.worker.engines.openai.continuing import plan
from millstream.worker.engines.openai.pool import UpstreamPool
from millstream.worker.engines.openai.reading import AnswerReader, cut_off
from millstream.worker.engines.openai.settings import UpstreamSettings
from millstream.worker.engines.openai.tokenizing import tokenized

CAPABILITIES = {  # an ability -> the card's name of it
    "chat": "chat",
    "completions": "completions",
    "tools": "tools",
    "images": "images",
    "embeddings": "embeddings",
    "reranks": "rerank",
}


class OpenAIEngine:
    """Implements `worker.engines.base.TextEngine`."""

    kind: Literal["text"] = "text"

    def __init__(self, settings: UpstreamSettings) -> None:
        self._pool = UpstreamPool(settings)

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Waits for the first upstream that answers. Raises `BadRequest` for what waiting does not mend."""
        _, found = asyncio.run(self._pool.find(progress))
        kinds = [told for name, told in CAPABILITIES.items() if getattr(found, name)]
        return ModelCard(
            **self._pool.card_facts(found),
            fingerprint=self._pool.fingerprint,
            capabilities=tuple(kinds),
            exactness=dict(found.exactnesses()),
        )

    def start(self, changed: Callable[[], None]) -> None:
        self._pool.start(changed)

    @property
    def slots(self) -> int:
        return self._pool.slots

    def stats(self) -> EngineStats:
        return self._pool.stats()

    def close(self) -> None:
        self._pool.close()

    async def answer(self, spec: TextSpec) -> AsyncGenerator[Chunk]:
        upstream, abilities = self._pool.pick()
        planned = plan(spec.request, abilities, spec.earlier)
        if planned.over is not None:
            yield planned.over
            return
        reader, begun = AnswerReader(spec.key, spec.request.sampling.logprobs), bool(spec.earlier)
        async with (
            self._pool.asking(upstream, planned.route, planned.body) as response,
            aclosing(self._pool.events_of(response, reader)) as events,
        ):
            if not begun:
                yield Chunk(start=Start(0, self._pool.fingerprint, exactness=abilities.exactness(spec.request)))
            async for data in events:
                chunk = reader.read(data)
                chunk = planned.seam.cut(chunk) if chunk is not None else None
                if chunk is not None:
                    yield chunk
        if not reader.complete:
            raise cut_off()
        upstream.succeeded()
        yield planned.seam.last(reader.last())

    async def compute(self, work: WorkInput) -> tuple[Result, int]:
        """Raises `BadRequest`, `EngineError`, `UpstreamLost`."""
        match work:
            case TokenizeInput():
                result = await self._tokenized(work)
                return result, len(result.ids)
            case EmbedInput() | RerankInput():
                return await self._computed(work)
            case _:
                raise BadRequest("This model's upstream is not asked for classes.", param="model")

    async def _tokenized(self, work: TokenizeInput) -> Result:
        upstream, abilities = self._pool.pick()
        try:
            return await tokenized(upstream.client, upstream.address, abilities, work)
        except httpx.HTTPError as error:
            raise self._pool.lost(upstream, error, attempts=0) from error

    async def _computed(self, work: EmbedInput | RerankInput) -> tuple[Result, int]:
        upstream, abilities = self._pool.pick()
        result, tokens = Result(), 0
        for part in parts(work, abilities):
            route, body = computing_body(part, abilities, upstream.address.root)
            answer, headers = await self._pool.whole(upstream, route, body)
            found, counted = await asyncio.to_thread(read_computed, part, abilities, answer)
            tokens += counted or counted_by(headers)
            vectors, scores = [*result.vectors, *found.vectors], [*result.scores, *found.scores]
            result = Result(vectors=vectors, scores=scores)
        upstream.succeeded()
        return result, tokens
