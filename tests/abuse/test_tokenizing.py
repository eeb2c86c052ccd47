"""Counting and cutting down texts costs a bounded amount of work."""

from typing import Any

import pytest

from millstream.common.errors import ContextLengthExceeded
from millstream.common.job import ChatPrompt, JobRequest, TextPrompt, TokenizeInput
from millstream.gateway.apis.responses.read import droppings
from millstream.gateway.apis.responses.shape import ResponseItem
from millstream.worker.engines.base import ModelCard, SequenceKey
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.jobs.compute import compute
from millstream.worker.jobs.prepare import begin_sequence

HUGE = "x" * 2_000_000
LONGEST = 1000  # tokens, which are bytes here


@pytest.fixture
def engine() -> tuple[SimulatedEngine, ModelCard]:
    made = SimulatedEngine(SimulatedSettings(context_length=LONGEST))
    return made, made.load()


def spoken(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_what_no_context_holds_is_not_tokenized(engine: tuple[SimulatedEngine, ModelCard]) -> None:
    for work, param in (
        (TokenizeInput(text=HUGE), "prompt"),
        (TokenizeInput(text="x" * (LONGEST + 1)), "prompt"),
        (TokenizeInput(messages=spoken(HUGE)), "messages"),
        (TokenizeInput(ids=[65] * (LONGEST + 1)), "tokens"),
    ):
        with pytest.raises(ContextLengthExceeded, match=f"maximum context length is {LONGEST} tokens") as told:
            compute(*engine, work)
        assert told.value.param == param
    result, tokens = compute(*engine, TokenizeInput(text="x" * LONGEST))
    assert (tokens, len(result.pieces)) == (LONGEST, LONGEST)


def test_nor_is_it_rendered(engine: tuple[SimulatedEngine, ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> list[int]:
        raise AssertionError("the text was looked at")

    monkeypatch.setattr(engine[0].tokenizer, "encode", never)
    monkeypatch.setattr(engine[0].tokenizer, "chat", never)
    for prompt in (TextPrompt(HUGE), ChatPrompt(spoken(HUGE))):
        with pytest.raises(ContextLengthExceeded, match="characters"):
            begin_sequence(*engine, JobRequest(prompt), SequenceKey("job#1"), [])


@pytest.mark.parametrize("count", [1, 2, 3, 40, 64, 1000, 16_000])
def test_automatic_truncation_tries_a_few_times(count: int) -> None:
    items = [ResponseItem.model_validate({"type": "message", "role": "user", "content": "hi"}) for _ in range(count)]
    attempts = list(droppings(items, "auto"))
    assert attempts[0] == 0 and attempts == sorted(set(attempts)) and len(attempts) <= 8
    assert attempts[-1] == count - 1
    assert list(droppings(items, "disabled")) == [0]
