"""Upstreams that take and give token ids: whatever an answer is, it goes on after a death with the same tokens."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.common.chunk import Chunk
from millstream.common.errors import BadGrammar, BadRequest, Interrupted
from millstream.common.job import ChatPrompt, Guide, GuideKind, JobRequest, Sampling, TextPrompt, ToolUse
from millstream.worker.engines.base import LoadFailed, SequenceKey, SequenceSpec
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.settings import UpstreamSettings
from millstream.worker.engines.openai.tokens.engine import TokenUpstreamSettings, UpstreamTokenEngine
from millstream.worker.engines.openai.tokens.llama import LlamaReader, LlamaWire
from millstream.worker.engines.openai.tokens.vocabulary import UpstreamVocabulary, load_vocabulary
from tests.harness.scripted_upstream import Turn
from tests.worker.engines.openai.conftest import USER, UpstreamRig, words
from tests.worker.engines.openai.token_upstream import END, WORDS, TokenUpstream, ids_of

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>{"name": "look", "arguments": {"at": "a river"}}</tool_call>'
LONG = Sampling(temperature=0.7, seed=3, max_tokens=24)
Begin = Callable[..., UpstreamTokenEngine]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    WORDS.save_pretrained(tmp_path / "words")
    return tmp_path / "words"


@pytest.fixture
def engine_of(folder: Path) -> Begin:
    def made(*at: TokenUpstream, tokenizer: str = str(folder)) -> UpstreamTokenEngine:
        return UpstreamTokenEngine(
            TokenUpstreamSettings(UpstreamSettings(urls=tuple(upstream.url for upstream in at)), tokenizer)
        )

    return made


async def upstream(rig: UpstreamRig, *turns: Turn, **changes: object) -> TokenUpstream:
    made = TokenUpstream(**changes)  # type: ignore[arg-type]
    made.turns.extend(turns)
    await rig.serve_upstream(made)
    return made


def calls(chunks: list[Chunk]) -> str:
    return "".join(delta.name + delta.arguments for chunk in chunks for delta in chunk.tools)


@pytest.mark.parametrize("prompt", [ChatPrompt(USER), TextPrompt("Rivers are")])
@pytest.mark.parametrize("cut", [1, 5, 23])
async def test_it_goes_on_with_the_same_tokens_wherever_it_was_cut(
    rig: UpstreamRig, engine_of: Begin, prompt: ChatPrompt | TextPrompt, cut: int
) -> None:
    calm = await upstream(rig)
    await rig.serve(engine_of(calm))
    whole = await rig.read(JobRequest(prompt, LONG))
    calm.turns.append(Turn(die_after=cut))
    again = await rig.read(JobRequest(prompt, LONG))
    assert words(again) == words(whole) and len(words(whole)) == 24
    assert again[0].start is not None and again[0].start.exactness == "tokens"
    assert sum(chunk.start is not None for chunk in again) == 1
    first, second = calm.streams[1:]
    made = ids_of(words(whole)[:cut])
    assert second["prompt"] == first["prompt"] + made and second["max_tokens"] == 24 - cut
    assert again[-1].usage is not None and whole[-1].usage is not None
    assert again[-1].usage.completion == whole[-1].usage.completion == 24


async def test_another_upstream_and_another_worker_go_on_too(rig: UpstreamRig, engine_of: Begin) -> None:
    dying, living = await upstream(rig, Turn(die_after=4), Turn(die_after=3)), await upstream(rig)
    await rig.serve(engine_of(dying, living), "w1")
    chunks = await rig.read(JobRequest(ChatPrompt(USER), LONG))
    await rig.serve(engine_of(living), "w2")
    assert words(await rig.read(JobRequest(ChatPrompt(USER), LONG))) == words(chunks)


@pytest.mark.parametrize("cut", [3, 20, 45, 60])
async def test_a_tool_call_is_not_lost_with_its_upstream(rig: UpstreamRig, engine_of: Begin, cut: int) -> None:
    """A text engine could only have given it up."""
    at = await upstream(rig, Turn(die_after=cut), text=CALL)
    await rig.serve(engine_of(at))
    chunks = await rig.read(JobRequest(ChatPrompt(USER, [TOOL]), Sampling(max_tokens=200), tool_use=ToolUse("auto")))
    assert calls(chunks) == 'look{"at": "a river"}' and words(chunks) == ""
    assert chunks[-1].finish == "tool_calls" and len(at.streams) == 2


async def test_an_end_token_ends_it_and_stop_strings_are_ours(rig: UpstreamRig, engine_of: Begin) -> None:
    at = await upstream(rig, text="one two three")
    await rig.serve(engine_of(at))
    chunks = await rig.read(JobRequest(ChatPrompt(USER), Sampling(max_tokens=50)))
    assert (words(chunks), chunks[-1].finish) == ("one two three", "stop")
    chunks = await rig.read(JobRequest(ChatPrompt(USER), Sampling(max_tokens=50, stop=["two"])))
    assert (words(chunks), chunks[-1].finish, chunks[-1].stopped_by) == ("one ", "stop", "two")
    assert "stop" not in at.streams[-1] and at.streams[-1]["stop_token_ids"] == [END]


async def test_log_probabilities_and_what_was_cached_come_through(rig: UpstreamRig, engine_of: Begin) -> None:
    await rig.serve(engine_of(await upstream(rig)))
    chunks = await rig.read(JobRequest(ChatPrompt(USER), Sampling(max_tokens=4, logprobs=2)))
    scores = [score for chunk in chunks for score in chunk.logprobs]
    assert [score.logprob for score in scores] == [-0.5] * 4
    assert [[top.logprob for top in score.top] for score in scores] == [[-0.5, -2.0]] * 4
    assert chunks[-1].usage is not None and chunks[-1].usage.cached == 3


async def test_a_grammar_is_asked_for_again_and_compared(rig: UpstreamRig, engine_of: Begin) -> None:
    at = await upstream(rig, Turn(die_after=7), text='{"a": 1, "b": 2}')
    await rig.serve(engine_of(at))
    request = JobRequest(ChatPrompt(USER), Sampling(temperature=0, max_tokens=50), guide=Guide("json_object", ""))
    chunks = await rig.read(request)
    assert words(chunks) == '{"a": 1, "b": 2}'
    assert chunks[0].start is not None and chunks[0].start.exactness == "restart"
    first, second = at.streams
    assert first["prompt"] == second["prompt"] and first["response_format"] == {"type": "json_object"}


async def test_what_differs_when_asked_for_again_is_never_spliced(rig: UpstreamRig, engine_of: Begin) -> None:
    await rig.serve(engine_of(await upstream(rig, Turn(die_after=7), drifts=True)))
    request = JobRequest(ChatPrompt(USER), Sampling(temperature=0, max_tokens=20), guide=Guide("json_object", ""))
    with pytest.raises(Interrupted, match="something else"):
        await rig.read(request)


async def test_before_the_first_token_it_waits_for_its_turn(rig: UpstreamRig, engine_of: Begin) -> None:
    at = await upstream(rig, Turn(status=429, headers={"retry-after": "0.1"}), Turn(status=503))
    await rig.serve(engine_of(at))
    assert len(words(await rig.read(JobRequest(ChatPrompt(USER), LONG)))) == 24


async def test_a_tokenizer_that_is_not_the_models_own_is_refused(
    rig: UpstreamRig, engine_of: Begin, tmp_path: Path
) -> None:
    other = json.loads(WORDS.backend_tokenizer.to_str())
    words_of = other["model"]["vocab"]
    words_of["a"], words_of["x"] = words_of["x"], words_of["a"]
    WORDS.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(other))
    at = await upstream(rig)
    with pytest.raises(LoadFailed, match="not that of scripted"):
        await asyncio.to_thread(engine_of(at, tokenizer=str(tmp_path / "other")).load)
    with pytest.raises(LoadFailed, match="no such folder"):
        await asyncio.to_thread(engine_of(at, tokenizer=str(tmp_path / "nowhere")).load)


async def test_an_upstream_that_names_no_ids_is_refused(rig: UpstreamRig, engine_of: Begin) -> None:
    at = await upstream(rig, names_ids=False)
    with pytest.raises(LoadFailed, match="gives no token ids"):
        await asyncio.to_thread(engine_of(at).load)


async def test_what_it_cannot_do_is_refused_by_name(rig: UpstreamRig, engine_of: Begin) -> None:
    await rig.serve(engine_of(await upstream(rig)))
    with pytest.raises(BadRequest, match="bad_words"):
        await rig.read(JobRequest(ChatPrompt(USER), Sampling(max_tokens=4, bad_words=["river"])))


# ------------------------------------------------------------------------------------------------------ llama.cpp's way


@pytest.fixture
def vocabulary(folder: Path, tmp_path: Path) -> UpstreamVocabulary:
    return load_vocabulary(str(folder), tmp_path, lambda stage, fraction: None)


def event(content: str, tokens: list[int], predicted: int, **more: object) -> bytes:
    return json.dumps({"content": content, "tokens": tokens, "tokens_predicted": predicted, **more}).encode()


def test_tokens_that_llama_cpp_does_not_name_are_found_by_their_bytes(vocabulary: UpstreamVocabulary) -> None:
    """It names only the last token of a character that has several, as recorded from its server."""
    spec = SequenceSpec(SequenceKey("s"), [1], Sampling(max_tokens=9), 9)
    reader = LlamaReader(spec, frozenset({END}), vocabulary)
    crab, kanji = ids_of("🦀"), ids_of("漢")
    outputs = reader.read(event("🦀", crab[-1:], 4)) + reader.read(event("漢", kanji[-1:], 7))
    outputs += reader.read(event("", [END], 8))
    assert [output.token for output in outputs] == [*crab, *kanji, END]
    assert outputs[-1].finish == "stop" and reader.done and reader.last() is None


def test_an_end_of_llama_cpp_is_read(vocabulary: UpstreamVocabulary) -> None:
    spec = SequenceSpec(SequenceKey("s"), [1], Sampling(max_tokens=1, logprobs=1), 1)
    reader = LlamaReader(spec, frozenset({END}), vocabulary)
    scored = {"id": 5, "logprob": -0.25, "top_logprobs": [{"id": 5, "logprob": -0.25}]}
    [output] = reader.read(event("x", [5], 1, completion_probabilities=[scored]))
    assert output.logprob is not None and (output.logprob.logprob, output.logprob.top) == (-0.25, [(5, -0.25)])
    assert reader.read(event("", [], 1, stop=True, stop_type="limit")) == []
    last = reader.last()
    assert last is not None and last.finish == "length" and reader.done


def test_llama_cpp_is_told_schemas_in_its_own_words(vocabulary: UpstreamVocabulary) -> None:
    def told(kind: GuideKind, value: str) -> object:
        spec = SequenceSpec(SequenceKey("s"), [1], Sampling(), 9, guide=Guide(kind, value))
        return LlamaWire(vocabulary).body(spec, Abilities(server="llama.cpp"))["json_schema"]

    assert told("json_object", "") == {"type": "object"}
    assert told("json_schema", '{"const": 1}') == {"const": 1}
    with pytest.raises(BadGrammar, match="no regex to follow"):
        told("regex", "a+")


@pytest.mark.parametrize("param", ["min_tokens", "allowed_token_ids"])
def test_what_llama_cpp_lacks_is_refused_by_name(vocabulary: UpstreamVocabulary, param: str) -> None:
    sampling = Sampling(min_tokens=3) if param == "min_tokens" else Sampling(allowed_token_ids=[1])
    with pytest.raises(BadRequest, match=param):
        LlamaWire(vocabulary).check(SequenceSpec(SequenceKey("s"), [1], sampling, 9))
