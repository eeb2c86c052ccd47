"""Whatever an upstream's stream looks like, it is read right or is an error."""

from typing import Any

import pytest

from millstream.common.errors import EngineError
from millstream.worker.engines.openai.reading import EventReader
from tests.worker.engines.openai.test_answers import call, delta, read


@pytest.mark.parametrize(
    "parts",
    [
        [call(None, None, "f", "{}"), call(None, None, "g", '{"x": 1}')],  # neither index nor id
        [call(0, None, "f", "{}"), call(0, None, "g", '{"x"'), call(0, None, "g", ": 1}")],  # the name in each part
        [call(0, "c", "f", "{}"), call(1, "c", "g", '{"x"'), call(1, "c", None, ": 1}")],  # one id for all
        [call(None, "c", "f", "{}"), call(None, "c", "g", '{"x": 1}')],
        [call(0, "a", "f", ""), call(0, "b", None, "{}"), call(1, "c", "g", '{"x": 1}')],  # an id for each part
        [
            call(None, "a", "f"),
            call(None, "b", "g", '{"x"'),
            call(None, "a", None, "{}"),
            call(None, "b", None, ": 1}"),
        ],
        [call(0, "a"), call(0, None, "f", "{}"), call(0, "a", "f", ""), call(1, "b"), call(1, None, "g", '{"x": 1}')],
    ],
)
def test_calls_are_told_apart_however_a_server_marks_them(parts: list[dict[str, Any]]) -> None:
    chunks = read(*(delta(tool_calls=[part]) for part in parts), delta("stop"))
    told = [tool for chunk in chunks for tool in chunk.tools]
    calls: dict[int, tuple[str, str]] = {}
    for tool in told:
        name, arguments = calls.get(tool.index, ("", ""))
        calls[tool.index] = (name + tool.name, arguments + tool.arguments)
    assert calls == {0: ("f", "{}"), 1: ("g", '{"x": 1}')}
    assert len({tool.id for tool in told if tool.id}) == 2, "each has an id of its own, told once"
    assert chunks[-1].finish == "tool_calls"


def test_two_calls_of_one_function_are_two() -> None:
    parts = [call(None, None, "f", '{"x": 1}'), call(None, None, "f", '{"x": 2}')]
    tools = read(delta(tool_calls=parts))[0].tools
    assert [(tool.index, tool.arguments) for tool in tools] == [(0, '{"x": 1}'), (1, '{"x": 2}')]


def test_what_is_empty_or_said_twice_does_no_harm() -> None:
    nothing = {"choices": [{"index": 0, "delta": None, "finish_reason": None}]}
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    chunks = read(
        {"choices": [], "prompt_filter_results": []}, {"choices": [], "usage": usage}, nothing, delta(content="a"),
        delta(content=None, tool_calls=None), delta("length"), delta("stop"), {"choices": None, "usage": usage},
    )  # fmt: skip
    assert [chunk.text for chunk in chunks] == ["a", ""]
    assert chunks[-1].finish == "length", "the word that tells more"
    assert chunks[-1].usage is not None and (chunks[-1].usage.prompt, chunks[-1].usage.completion) == (5, 1)


def test_a_line_in_many_pieces_costs_no_more_than_its_length() -> None:
    """A copy of what is there for each piece would be 80 GB."""
    reader = EventReader()
    for _ in range(40_000):
        assert not list(reader.feed(b"x" * 100))
    assert list(reader.feed(b"\ndata: on\n\n")) == [b"on"]


@pytest.mark.parametrize("endless", [b"x" * 2**20, b"data: x\n" * 100])
def test_an_event_without_an_end_is_an_error(endless: bytes) -> None:
    reader = EventReader()
    with pytest.raises(EngineError, match="an event without an end"):
        for _ in range(40):
            list(reader.feed(endless))
