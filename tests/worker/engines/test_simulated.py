"""The simulated engine keeps an engine's contract: pace, ends, continuation, scripts."""

import json
from typing import Any

import pytest

from millstream.common.errors import BadRequest, ContextLengthExceeded, EngineError
from millstream.common.hashchain import chain_start, check_chain
from millstream.common.job import Sampling
from millstream.worker.engines.base import Output, SequenceKey, SequenceSpec
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from tests.harness.support import wait_until


class SimulatedRig:
    """An engine and what it said."""

    def __init__(self, settings: SimulatedSettings | None = None) -> None:
        self.engine = SimulatedEngine(settings)
        self.outputs: list[Output] = []
        self.engine.load()
        self.engine.start(self.outputs.extend)

    async def run(self, spec: SequenceSpec) -> list[Output]:
        self.engine.add(spec)
        await wait_until(lambda: any(o.key == spec.key and (o.finish or o.error) for o in self.outputs))
        return [output for output in self.outputs if output.key == spec.key]


def spec(text: str = "hello", key: str = "j#1", **more: Any) -> SequenceSpec:
    sampling = more.pop("sampling", Sampling(seed=7, max_tokens=10))
    return SequenceSpec(SequenceKey(key), list(text.encode()), sampling, more.pop("max_tokens", 10), **more)


def script(**fields: Any) -> SequenceSpec:
    generated = fields.pop("generated", [])
    return spec("script: " + json.dumps(fields), max_tokens=1000, generated=generated)


async def test_a_chain_is_whole_and_ends_at_max_tokens() -> None:
    rig = SimulatedRig()
    outputs = await rig.run(spec())
    text = rig.engine.tokenizer.decode([output.token for output in outputs])
    assert len(outputs) == 10 and outputs[-1].finish == "length"
    assert check_chain(text, chain_start(list(b"hello"), 7)) is None


def test_a_broken_chain_is_found() -> None:
    words = [f"{word} " for word in ("40000000", "5d3c1b2a")]
    assert check_chain("".join(words)) == 1
    assert check_chain("40000000") == 0  # cut in the middle of a token


@pytest.mark.parametrize("split", [1, 5, 9])
async def test_a_continuation_makes_the_tokens_the_first_run_would_have(split: int) -> None:
    rig = SimulatedRig()
    whole = [output.token for output in await rig.run(spec(key="a#1"))]
    rest = [output.token for output in await rig.run(spec(key="a#2", generated=whole[:split]))]
    assert whole[:split] + rest == whole


async def test_without_max_tokens_it_ends_by_itself() -> None:
    outputs = await SimulatedRig(SimulatedSettings(default_length=5)).run(spec(sampling=Sampling(), max_tokens=100))
    assert [output.finish for output in outputs] == [None] * 5 + ["stop"]


async def test_a_stop_token_ends_it() -> None:
    stop = chain_start(list(b"hello"), 7)
    outputs = await SimulatedRig().run(spec(sampling=Sampling(seed=7, max_tokens=10, stop_token_ids=[stop])))
    assert [(output.token, output.finish) for output in outputs] == [(stop, "stop")]


async def test_sequences_of_one_pace_step_together() -> None:
    rig = SimulatedRig(SimulatedSettings(rate=200))
    steps: list[list[Output]] = []
    rig.engine.start(steps.append)
    rig.engine.add(spec(key="a#1"))
    rig.engine.add(spec(key="b#1"))
    await wait_until(lambda: sum(map(len, steps)) == 20)
    assert len(steps) <= 12


async def test_abort_ends_it_and_the_engine_falls_idle() -> None:
    rig = SimulatedRig()
    rig.engine.add(spec(max_tokens=100_000))
    await wait_until(lambda: rig.outputs)
    rig.engine.abort(SequenceKey("j#1"))
    rig.engine.abort(SequenceKey("unknown#1"))
    steps = rig.engine.stats().steps
    assert (await rig.run(spec(key="k#1")))[-1].finish == "length"
    assert rig.engine.stats().steps == steps + 10 and rig.engine.stats().running == 0


async def test_a_script_is_said_byte_by_byte() -> None:
    rig = SimulatedRig()
    outputs = await rig.run(script(text="né", finish="stop"))
    assert [output.token for output in outputs] == [*"né".encode(), 256]
    assert outputs[-1].finish == "stop"
    outputs = await SimulatedRig().run(script(text="ab", finish="length"))
    assert [output.finish for output in outputs] == [None, "length"]


async def test_a_script_can_fail() -> None:
    outputs = await SimulatedRig().run(script(text="abc", after=2, error={"message": "boom"}))
    assert [output.token for output in outputs[:2]] == [97, 98]
    assert isinstance(outputs[2].error, EngineError) and outputs[2].error.message == "boom"


async def test_a_hang_stops_every_step() -> None:
    rig = SimulatedRig()
    rig.engine.add(script(text="ab", hang=True))
    await wait_until(lambda: len(rig.outputs) == 2)
    rig.engine.add(spec(key="other#1"))
    steps = rig.engine.stats().steps
    assert rig.engine.stats().running == 2
    await wait_until(lambda: rig.engine.stats().steps == steps)


async def test_a_conversation_of_scripts_takes_a_turn_each() -> None:
    rig = SimulatedRig()
    user = {"role": "user", "content": "script: " + json.dumps([{"text": "one"}, {"text": "two"}])}
    answer, result = {"role": "assistant", "content": "one"}, {"role": "tool", "content": "42"}
    for key, messages, said in (("a#1", [user], "one"), ("b#1", [user, answer, result], "two")):
        prompt = rig.engine.tokenizer.chat(messages, [], go_on=False, kwargs={})
        outputs = await rig.run(SequenceSpec(SequenceKey(key), prompt, Sampling(), 50))
        assert rig.engine.tokenizer.decode([output.token for output in outputs]) == said


async def test_refusals_are_clear() -> None:
    rig = SimulatedRig(SimulatedSettings(context_length=20))
    with pytest.raises(ContextLengthExceeded, match="20 tokens"):
        rig.engine.add(spec(max_tokens=100))
    with pytest.raises(BadRequest, match="txet"):
        SimulatedRig().engine.add(script(txet="typo"))


async def test_a_script_may_stand_at_the_end_of_what_an_agent_says() -> None:
    said = "<reminder>\nBe good.\n</reminder>\n\nscript: " + json.dumps({"text": "ab"})
    assert len(await SimulatedRig().run(spec(said, max_tokens=1000))) == 3
    told = "<session>\nscript: " + json.dumps({"text": "ab"}) + "\n</session>\n"
    assert len(await SimulatedRig().run(spec(told, max_tokens=1000))) == 1000


async def test_an_agent_may_add_lines_to_a_script() -> None:
    written = "script: " + json.dumps({"text": "ab"})
    assert len(await SimulatedRig().run(spec(written + "\n\nReply in English.\n", max_tokens=1000))) == 3
    with pytest.raises(BadRequest, match="cannot read"):
        SimulatedRig().engine.add(spec(written + " in English", max_tokens=1000))
