"""Every model family reads the conversations of every agent, and all that was said in them."""

import re
from typing import Any

import pytest

from millstream.bench.lab import random_model
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.text.message_order import Conversation, short_id, thoughts_before_calls
from millstream.worker.text.parsers.formats import FORMATS, FormatName
from millstream.worker.text.prompt import chat_ids
from tests.worker.text.families import FAMILIES
from tests.worker.text.orders import ORDERS, TOOL, call, result, say

WORDLESS_CALLS = ("Mistral 7B v0.3, Nemo",)  # what is said beside a call is left out there


def words_of(family: str) -> HuggingFaceTokenizer:
    inner = random_model.byte_tokenizer("")
    inner.chat_template = FAMILIES[family]  # pyright: ignore[reportAttributeAccessIssue]
    return HuggingFaceTokenizer(inner, frozenset())


def rendered(
    family: str,
    messages: Conversation,
    tools: list[dict[str, Any]] | None = None,
    notation: FormatName = "hermes",
    **more: Any,
) -> str:
    words = words_of(family)
    return words.decode(chat_ids(words, messages, tools or [], FORMATS[notation], **more), skip_special=False)


def said(messages: Conversation) -> list[str]:
    """All texts of a conversation in order, system messages aside."""
    found: list[str] = []
    for message in messages:
        if message["role"] not in ("system", "developer"):
            keys = [re.findall("K[0-9]", each["function"]["arguments"])[0] for each in message.get("tool_calls", ())]
            found += [message["content"], *keys]
    return [text for text in found if text]


@pytest.mark.parametrize("offered", [True, False], ids=["tools offered", "no tools"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_that_was_said_is_in_the_prompt(family: str, order: str, offered: bool) -> None:
    messages = ORDERS[order]
    prompt = rendered(family, messages, [TOOL] if offered else [])
    missing = [text for text in said(messages) if text not in prompt]
    beside = [m["content"] for m in messages if m.get("tool_calls")] if family in WORDLESS_CALLS else []
    assert set(missing) <= set(beside)
    told = sorted((prompt.index(text), text) for text in said(messages) if text in prompt)
    in_order = [text for text in said(messages) if text in prompt]
    if "toolu_" not in str(messages) and "'c2'" not in str(messages):  # results may be told right after their calls
        assert [text for _, text in told] == in_order
    systems = [m["content"] for m in messages if m["role"] in ("system", "developer")]
    assert [text for _, text in sorted((prompt.index(text), text) for text in systems)] == systems
    assert not offered or '"look"' in prompt or "'look'" in prompt


@pytest.mark.parametrize("family", ["ChatML (Yi 1, SmolLM 2, OpenHermes)", "Qwen 2.5", "Granite 3", "GLM 4.5"])
def test_what_a_template_takes_stays_as_it_was_sent(family: str) -> None:
    prompt = rendered(family, ORDERS["Codex' first request"])
    assert prompt == "<system>S1\n<system>S2\n<user>U1\n<user>U2\n<assistant>"


def test_later_instructions_leave_the_beginning_of_the_prompt_as_it_was() -> None:
    """So that the prefix cache knows it in the next turn."""
    first = ORDERS["Claude Code's first request"]
    later = [*first, say("assistant", "A1"), say("user", "U2"), say("system", "S3")]
    begun, gone_on = rendered("Qwen 3.5", first), rendered("Qwen 3.5", later)
    assert gone_on.startswith(begun) and gone_on.endswith("A1\n<user>U2\n<user>S3\n<assistant>")
    assert begun == "<system>S1\n\nS2\n<user>U1\n<assistant>"


def test_identities_become_nine_letters_where_the_template_wants_that_and_only_there() -> None:
    id = "call_a1b2c3d4e5f6a1b2c3d4e5f6"
    messages = [say("user", "U1"), call("", (id, "K1")), result(id, "R1")]
    prompt = rendered("Mistral 7B v0.3, Nemo", messages)
    assert re.fullmatch("[A-Za-z0-9]{9}", short_id(id)) and prompt.count(short_id(id)) == 1
    assert short_id("a1B2c3D4e") == "a1B2c3D4e" and short_id(id) != short_id(id + "7") and short_id(id) == short_id(id)
    kept = [say("user", "U1"), call("", ("a1B2c3D4e", "K1")), result("a1B2c3D4e", "R1")]
    assert "a1B2c3D4e" in rendered("Mistral 7B v0.3, Nemo", kept)


def test_a_template_that_shows_only_the_identities_of_calls_names_their_functions() -> None:
    messages = [say("user", "U1"), call("", ("call_a1", "K1"), ("call_b2", "K2"))]
    messages += [result("call_b2", "R2"), result("call_a1", "R1")]
    prompt = rendered("Kimi K2", messages, notation="kimi")
    assert "<|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>" in prompt
    assert "## Return of functions.look:1\nR2" in prompt and "call_a1" not in prompt


def test_a_thought_that_led_to_a_call_has_the_name_that_gpt_oss_reads() -> None:
    thinking = call("", ("c1", "K1")) | {"reasoning_content": "T1"}
    said_too = call("A2", ("c2", "K2")) | {"reasoning_content": "T2"}
    changed = thoughts_before_calls([thinking, said_too, say("assistant", "A3") | {"reasoning_content": "T3"}])
    assert [message.get("thinking") for message in changed] == ["T1", None, None]
    prompt = rendered("gpt-oss", [say("user", "U1"), thinking, result("c1", "R1")], [TOOL], notation="harmony")
    assert prompt.index("T1") < prompt.index("K1") < prompt.index("R1")


def test_a_history_of_calls_is_told_whether_or_not_tools_are_offered_now() -> None:
    messages = ORDERS["Codex after a tool"]
    for family in ("Gemma 3", "Phi 3", "SmolLM 3", "Phi 4 mini"):  # the last two name tools, but do not show them
        prompt = rendered(family, messages)
        assert '<tool_call>\n{"name": "look", "arguments": {"key": "K1"}}\n</tool_call>' in prompt
        assert "The function answered:\nR1" in prompt


def test_calls_of_one_turn_are_told_one_by_one_where_a_template_takes_or_shows_only_one() -> None:
    messages = ORDERS["Claude Code after two tools at once"]
    for family in ("Llama 3", "gpt-oss"):
        prompt = rendered(family, messages, [TOOL])
        assert prompt.index("K1") < prompt.index("R1") < prompt.index("K2") < prompt.index("R2")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_beginning_of_an_answer_is_gone_on_with_in_every_family(family: str) -> None:
    messages = [say("developer", "S1"), say("developer", "S2"), say("user", "U1"), say("assistant", "A1")]
    assert rendered(family, messages, go_on=True).endswith("A1")
