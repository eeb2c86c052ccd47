"""The real sample model: what a user would notice."""

import json
from collections.abc import Callable

import pytest

from millstream.common.job import Guide, ToolUse
from millstream.worker.engines.grammar.tool_guides import CallSyntax, tool_guide
from tests.worker.engines.rig import Rig

pytestmark = pytest.mark.model


@pytest.fixture(scope="session")
def ask(smollm2: Rig) -> Callable[[str], list[int]]:
    return lambda text: smollm2.engine.tokenizer.chat([{"role": "user", "content": text}], [], go_on=False, kwargs={})


def text(rig: Rig, tokens: list[int]) -> str:
    return rig.engine.tokenizer.decode(tokens)


def test_it_knows_the_capital_of_france(smollm2: Rig, ask: Callable[[str], list[int]]) -> None:
    (outputs,) = smollm2.run(smollm2.spec(ask("What is the capital of France?"), 30, ignore_eos=False))
    assert text(smollm2, [o.token for o in outputs]) == "The capital of France is Paris."
    assert outputs[-1].finish == "stop"
    assert smollm2.card.name == "smollm2-135m-instruct"
    assert smollm2.card.context_length == 2048


def test_seeded_and_greedy_are_the_same_alone_in_a_batch_and_continued(
    smollm2: Rig, ask: Callable[[str], list[int]]
) -> None:
    prompts = [ask(f"Tell me about the number {i}." + " Be brief." * i) for i in range(4)]
    more = [{"temperature": float(i % 3 > 0), "seed": i, "top_p": 0.9 if i % 2 else 1.0} for i in range(4)]
    batch = smollm2.tokens(*(smollm2.spec(p, 14, **m) for p, m in zip(prompts, more, strict=True)))
    alone = [smollm2.one(p, 14, **m) for p, m in zip(prompts, more, strict=True)]
    assert alone == batch
    continued = [
        smollm2.spec(p, 14, generated=tokens[: 5 + i], **m)
        for i, (p, m, tokens) in enumerate(zip(prompts, more, batch, strict=True))
    ]
    assert smollm2.tokens(*continued) == batch


def test_heat_changes_the_text(smollm2: Rig, ask: Callable[[str], list[int]]) -> None:
    prompt = ask("Name a colour.")
    cold, warm = smollm2.one(prompt, 12), smollm2.one(prompt, 12, temperature=1.5, seed=2)
    assert cold != warm


def test_characters_of_several_tokens_come_out_whole(smollm2: Rig) -> None:
    tokenizer = smollm2.engine.tokenizer
    for character in ("🦀", "漢", "é", "👩‍🔬"):
        ids = tokenizer.encode(character, special=False)
        assert b"".join(tokenizer.token_bytes(i) for i in ids).decode() == character
        assert tokenizer.decode(ids) == character


def test_it_can_be_made_to_write_an_emoji_only(smollm2: Rig, ask: Callable[[str], list[int]]) -> None:
    guide = Guide("choice", '["🦀🦀", "🐙🐙"]')
    told = smollm2.one(ask("An animal?"), 20, guide=guide, ignore_eos=False)
    assert text(smollm2, told) in ("🦀🦀", "🐙🐙")


def test_a_schema_is_kept(smollm2: Rig, ask: Callable[[str], list[int]]) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "country": {"type": "string", "maxLength": 20}},
        "required": ["city", "country"],
        "additionalProperties": False,
    }
    guide = Guide("json_schema", json.dumps(schema))
    told = smollm2.one(ask("Where is the Eiffel tower? Answer in JSON."), 80, guide=guide, ignore_eos=False)
    assert json.loads(text(smollm2, told))["city"] == "Paris"


def test_required_tools_work_on_a_small_model(smollm2: Rig, ask: Callable[[str], list[int]]) -> None:
    place = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 16}}, "required": ["city"]}
    place["additionalProperties"] = False
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": place}}]
    syntax = CallSyntax(prefix="<tool_call>\n", suffix="\n</tool_call>")
    guide = tool_guide(syntax, tools, ToolUse("required", parallel=False))
    told = text(smollm2, smollm2.one(ask("What is the weather in Rome?"), 80, guide=guide, ignore_eos=False))
    call = json.loads(told.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    assert call["name"] == "get_weather"
    assert call["arguments"]["city"]


def test_penalties_break_a_loop(smollm2: Rig) -> None:
    prompt = smollm2.engine.tokenizer.encode("one two one two one two one two")
    plain = smollm2.one(prompt, 24)
    assert len(set(smollm2.one(prompt, 24, frequency_penalty=2.0))) > len(set(plain))
