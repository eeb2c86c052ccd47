"""A model whose template knows no tools is told of them in words, and of the calls and results so far."""

from millstream.worker.text.parsers.formats import FORMATS
from millstream.worker.text.tool_prompts import calls_in_words, tell_tools

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}


def test_the_tools_and_the_notation_are_in_the_system_message() -> None:
    [system, user] = tell_tools([{"role": "user", "content": "hi"}], TOOLS, FORMATS["hermes"])
    assert system["role"] == "system"
    assert '"name": "weather"' in system["content"]
    assert '<tool_call>\n{"name": "function_name", "arguments"' in system["content"]
    assert user == {"role": "user", "content": "hi"}


def test_a_system_message_of_the_clients_own_is_kept() -> None:
    [system, _] = tell_tools(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}], TOOLS, FORMATS["json"]
    )
    assert system["content"].startswith("Be brief.\n\n")


def test_earlier_calls_and_results_become_text_in_the_same_notation() -> None:
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    told = calls_in_words(messages, FORMATS["pythonic"])
    assert told[1] == {"role": "assistant", "content": "[weather(city='Paris')]"}
    assert told[2]["role"] == "user" and told[2]["content"].endswith("sunny")
