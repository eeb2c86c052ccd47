"""OpenAI's and Anthropic's own clients, as their users have them, in the middle of answers when something dies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from millstream.bench.chaos.fleet import FleetPart
from millstream.common.hashchain import chain_next
from tests.harness.cluster import MODEL, PATIENCE, Cluster
from tests.harness.support import wait_until

TOKENS = 200
MESSAGES: Any = [{"role": "user", "content": "hi"}]
Pieces = AsyncIterator[tuple[int, str]]  # which choice, and what it says


def assert_whole(text: str) -> None:
    """Every token there, in its place: each tells the next."""
    tokens = [int(word, 16) for word in text.split()]
    assert len(tokens) == TOKENS
    assert tokens[1:] == [chain_next(token) for token in tokens[:-1]]


@dataclass
class SdkReader:
    """One stream, read by an SDK. Its texts are its choices'."""

    pieces: Callable[[], Pieces]
    texts: dict[int, str] = field(default_factory=dict[int, str])

    async def run(self) -> None:
        async for choice, text in self.pieces():
            self.texts[choice] = self.texts.get(choice, "") + text

    @property
    def under_way(self) -> bool:
        return any(len(text.split()) >= 5 for text in self.texts.values())


class Sdks:
    """Both SDKs at one gateway, trying nothing again by themselves."""

    def __init__(self, gateway: FleetPart) -> None:
        base, stack = gateway.url, AsyncExitStack()
        self._stack = stack
        self.openai = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
        self.anthropic = anthropic.AsyncAnthropic(base_url=base, api_key="none", max_retries=0, timeout=PATIENCE)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.openai)
        await self._stack.enter_async_context(self.anthropic)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def chat(self, n: int = 1, key: str = "") -> Pieces:
        headers = {"idempotency-key": key} if key else {}
        stream: openai.AsyncStream[ChatCompletionChunk] = await self.openai.chat.completions.create(
            model=MODEL, messages=MESSAGES, n=n, max_tokens=TOKENS, seed=7, stream=True, extra_headers=headers
        )
        async for chunk in stream:
            for choice in chunk.choices:
                yield choice.index, choice.delta.content or ""

    async def completion(self) -> Pieces:
        stream = await self.openai.completions.create(model=MODEL, prompt="hi", max_tokens=TOKENS, stream=True)
        async for piece in stream:
            for choice in piece.choices:
                yield choice.index, choice.text

    async def response(self) -> Pieces:
        stream = await self.openai.responses.create(model=MODEL, input="hi", max_output_tokens=TOKENS, stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                yield 0, event.delta

    async def message(self) -> Pieces:
        asked = self.anthropic.messages.stream(model=MODEL, max_tokens=TOKENS, messages=MESSAGES)
        async with asked as stream:
            async for text in stream.text_stream:
                yield 0, text

    def readers(self) -> list[SdkReader]:
        """A stream of each kind."""
        kinds = (self.chat, lambda: self.chat(n=2), self.completion, self.response, self.message)
        return [*map(SdkReader, kinds), SdkReader(lambda: self.chat(key="mine"))]


async def kill_the_worker(site: Cluster) -> None:
    only = next(part for part in site.fleet.parts if part.name.startswith("worker"))
    await only.kill()
    await site.worker()


async def kill_the_worker_and_wait(site: Cluster) -> None:
    """Nobody serves the model for a while: the streams are told their place in the queue."""
    only = next(part for part in site.fleet.parts if part.name.startswith("worker"))
    await only.kill()
    await asyncio.sleep(3.0)  # longer than the lease and than the silences
    await site.worker()


async def restart_redis(site: Cluster) -> None:
    await site.valkey.kill()
    await asyncio.sleep(1.0)  # longer than the silences
    await site.valkey.restart()


async def stop_the_gateway(site: Cluster) -> None:
    assert await site.fleet.parts[0].stop() == 0


async def freeze_the_worker(site: Cluster) -> None:
    """Shorter than its lease: nothing is lost, nothing moves, and the streams are silent."""
    only = next(part for part in site.fleet.parts if part.name.startswith("worker"))
    only.freeze()
    await asyncio.sleep(0.7)
    only.thaw()


@pytest.mark.parametrize(
    "fault", [kill_the_worker, kill_the_worker_and_wait, restart_redis, stop_the_gateway, freeze_the_worker]
)
async def test_every_stream_is_whole(site: Cluster, fault: Callable[[Cluster], Awaitable[None]]) -> None:
    gateway, _ = await site.gateway(keep_alive="0.2", drain="60"), await site.worker(simulated_rate="50")
    async with Sdks(gateway) as sdks:
        readers = sdks.readers()
        running = [asyncio.create_task(reader.run()) for reader in readers]
        for reader in readers:
            await wait_until(lambda reader=reader: reader.under_way, within=PATIENCE, what="an answer has begun")
        await fault(site)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*running)
    assert [len(reader.texts) for reader in readers] == [1, 2, 1, 1, 1, 1]
    for reader in readers:
        for text in reader.texts.values():
            assert_whole(text)


async def test_a_gateway_that_dies_is_an_error_and_the_same_key_has_it_all_elsewhere(site: Cluster) -> None:
    dying, staying, _ = await site.gateway(), await site.gateway(), await site.worker(simulated_rate="50")
    async with Sdks(dying) as first, Sdks(staying) as second:
        before, after = SdkReader(lambda: first.chat(key="mine")), SdkReader(lambda: second.chat(key="mine"))
        running = asyncio.create_task(before.run())
        await wait_until(lambda: before.under_way, within=PATIENCE, what="the answer has begun")
        await dying.kill()
        with pytest.raises(openai.APIConnectionError):
            await running
        await asyncio.wait_for(after.run(), PATIENCE)
    assert_whole(after.texts[0])
    assert after.texts[0].startswith(before.texts[0]) and len(await site.jobs()) == 1
