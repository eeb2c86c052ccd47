"""Every byte of a stream is for readers that we have not written: all that is sent between two events, at the beginning
and at the end, in streams of every API, must be nothing to them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import openai
import pytest
import pytest_asyncio

from millstream.gateway.queue.client import Admission
from tests.gateway.conftest import gateway
from tests.gateway.decoders import DECODERS, Decoder, Standard
from tests.gateway.scripted import MODEL, ScriptedCluster, said
from tests.harness.support import wait_until

MESSAGES = [{"role": "user", "content": "hi"}]
STREAM: dict[str, Any] = {"model": MODEL, "stream": True}
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "stream_options": {"include_usage": True}}),
    "two choices": ("/v1/chat/completions", {"messages": MESSAGES, "n": 2}),
    "completions": ("/v1/completions", {"prompt": "hi"}),
    "responses": ("/v1/responses", {"input": "hi"}),
    "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 20}),
}
WORDS = ["One", " two", " three", " four"]
COMES_BACK = {"x-millstream-resumable": "true"}
SIZES = (1, 7, 64, 1 << 20)  # bytes that a network may deliver at once


@dataclass
class Reading:
    """A stream being read by one who lets the next chunk happen only when a silence has been told."""

    url: str
    cluster: ScriptedCluster
    ask: str
    came: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def silent(self) -> bool:
        """Tells whether a comment is the last that came."""
        return self.came.rstrip(b"\n").rpartition(b"\n")[2].startswith(b":")

    @property
    def events(self) -> int:
        return self.came.count(b"\n\n")

    async def run(self, events: int = 1000, *, stay: bool = False) -> None:
        """To its end, or until so many events and a silence have come; those who stay read on as long as it lasts."""
        path, ask = ASKS[self.ask]
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=60) as http,
            http.stream("POST", path, json=STREAM | ask, headers=self.headers) as answer,
        ):
            assert answer.status_code == 200
            async for part in answer.aiter_bytes():
                self.came += part
                if self.silent and self.events < events:
                    await self.cluster.queue.advance()
                elif self.silent and not stay:
                    return


@pytest.fixture
def quiet(cluster: ScriptedCluster) -> ScriptedCluster:
    """A cluster whose jobs do nothing by themselves."""
    cluster.queue.script = lambda _: said(*WORDS)
    cluster.queue.at_first = 0
    return cluster


@pytest_asyncio.fixture
async def address(quiet: ScriptedCluster) -> AsyncIterator[str]:
    async with gateway(quiet, first_chunk_wait=0.01) as url:
        yield url


def parts_of(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def told(stream: bytes) -> Standard:
    """Returns what a stream tells, if every reader finds the same events in it, however it is cut."""
    standard = Standard().read(stream)
    for name, decoder in DECODERS.items():
        for size in SIZES:
            assert decoder(parts_of(stream, size)) == standard.events, f"{name}, {size} bytes at once"
    assert all(event.startswith("{") or event == "[DONE]" for event in standard.events)
    return standard


@pytest.mark.parametrize("ask", ASKS)
async def test_silences(address: str, quiet: ScriptedCluster, ask: str) -> None:
    reading = Reading(address, quiet, ask)
    await reading.run()
    found = told(reading.came)
    assert set(found.comments) == {"keep-alive"} and len(found.comments) > len(WORDS)
    last = found.events[-1]
    assert last == "[DONE]" or '"type":"response.completed"' in last or '"type":"message_stop"' in last
    assert all(f'"{word}"' in "".join(found.events) for word in WORDS)


@pytest.mark.parametrize("ask", ASKS)
async def test_a_place_in_the_queue(address: str, quiet: ScriptedCluster, ask: str) -> None:
    quiet.queue.admission = Admission("queued", [], position=3, wait=4.0)
    reading = Reading(address, quiet, ask)
    await reading.run()
    assert {"queued 3, about 4 s", "keep-alive"} <= set(told(reading.came).comments)


async def test_what_a_worker_says_of_its_loading_stays_one_comment(address: str, quiet: ScriptedCluster) -> None:
    quiet.queue.admission = Admission("queued", [], position=1, wait=4.0)
    quiet.queue.loading = 'half\n\ndata: {"error": {}}\r\rdata: [DONE]'
    reading = Reading(address, quiet, next(iter(ASKS)))
    await reading.run()
    found = told(reading.came)
    assert any("a worker loads the model: half data: " in comment for comment in found.comments)
    assert sum(event == "[DONE]" for event in found.events) == 1 and not any('"error"' in each for each in found.events)


@pytest.mark.parametrize("ask", ASKS)
async def test_going_on_after_a_silence(address: str, quiet: ScriptedCluster, ask: str) -> None:
    first = Reading(address, quiet, ask, headers=COMES_BACK)
    await first.run(events=3)
    had = told(first.came)
    second = Reading(address, quiet, ask, headers={"Last-Event-ID": had.ids[-1]})
    await second.run()
    whole = Reading(address, quiet, ask, headers={"Last-Event-ID": f"{had.ids[-1].partition(':')[0]}:0"})
    if ask == "two choices":
        whole.headers["Last-Event-ID"] += ".0"
    await whole.run()
    rest, all_of_it = told(second.came), told(whole.came)
    assert rest.comments and len(had.events) >= 3
    assert sorted(had.events + rest.events) == sorted(all_of_it.events)


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("headers", [{}, COMES_BACK])
async def test_a_gateway_that_stops(quiet: ScriptedCluster, ask: str, headers: dict[str, str]) -> None:
    async with gateway(quiet, first_chunk_wait=0.01, drain=0.1) as url:
        reading = Reading(url, quiet, ask, headers=headers)
        reading_on = asyncio.create_task(reading.run(events=3, stay=True))
        await wait_until(lambda: reading.events >= 3 and reading.silent, what="the stream is silent")
    with pytest.raises(httpx.RemoteProtocolError):
        await reading_on
    found = told(reading.came)
    assert found.reconnection == 1000 and found.comments and "[DONE]" not in found.events


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
def test_that_blank_lines_would_have_been_found_out(decoder: Decoder) -> None:
    """The readers that take a comment and a blank line for an event are among those that are asked."""
    stream = b'id: a:1\ndata: {"x":1}\n\n: keep-alive\n\ndata: [DONE]\n\n'
    found = decoder([stream])
    assert found == (['{"x":1}', "[DONE]"] if "sseclient" in decoder.__name__ else ['{"x":1}', "", "[DONE]"])


async def slowly(cluster: ScriptedCluster) -> None:
    """Lets a chunk happen after each silence, until cancelled."""
    while True:
        await asyncio.sleep(3 * cluster.queue.keep_alive)
        await cluster.queue.advance()


@pytest_asyncio.fixture
async def slow(address: str, quiet: ScriptedCluster) -> AsyncIterator[str]:
    """A gateway whose answers have silences in them."""
    advancing = asyncio.create_task(slowly(quiet))
    yield address
    advancing.cancel()
    await asyncio.gather(advancing, return_exceptions=True)


async def test_openai_sdk(slow: str) -> None:
    messages: Any = MESSAGES
    async with openai.AsyncOpenAI(base_url=f"{slow}/v1", api_key="none", max_retries=0) as client:
        texts = ["", "", "", ""]
        async for chunk in await client.chat.completions.create(model=MODEL, messages=messages, n=2, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        async for piece in await client.completions.create(model=MODEL, prompt="hi", stream=True):
            texts[2] += piece.choices[0].text
        async for event in await client.responses.create(model=MODEL, input="hi", stream=True):
            texts[3] += event.delta if event.type == "response.output_text.delta" else ""
    assert texts == ["".join(WORDS)] * 4


async def test_anthropic_sdk(slow: str) -> None:
    messages: Any = MESSAGES
    async with (
        anthropic.AsyncAnthropic(base_url=slow, api_key="none", max_retries=0) as client,
        client.messages.stream(model=MODEL, max_tokens=20, messages=messages) as stream,
    ):
        assert [text async for text in stream.text_stream] == WORDS
