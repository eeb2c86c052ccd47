"""The load generator asks the same questions for the same seed."""

from itertools import islice
from pathlib import Path

import pytest

from millstream.bench.command.datasets import bodies
from millstream.bench.command.settings import BenchSettings
from millstream.common.errors import BadRequest


def test_the_same_seed_asks_the_same() -> None:
    settings = BenchSettings(spread=0.5, seed=7)
    once, again = (list(islice(bodies(settings, "m"), 20)) for _ in range(2))
    assert once == again
    assert len({body["max_tokens"] for body in once}) > 3
    assert all(32 <= body["max_tokens"] <= 96 for body in once)
    assert once != list(islice(bodies(settings.model_copy(update={"seed": 8}), "m"), 20))


def test_conversations_share_what_was_said_before() -> None:
    asked = list(islice(bodies(BenchSettings(dataset="turns", turns=3, stream=False), "m"), 24))
    firsts = {body["messages"][0]["content"] for body in asked}
    assert len(firsts) == 1
    longest = [body["messages"] for body in asked if len(body["messages"]) == 6]
    assert len(longest) == 8
    for messages in longest:
        assert any(body["messages"] == messages[:4] for body in asked)
    assert "stream" not in asked[0]


def test_a_file_is_asked_over_and_over(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"prompt": "one", "max_tokens": 3}\n\n{"messages": [{"role": "user", "content": "two"}]}\n')
    asked = list(islice(bodies(BenchSettings(dataset="jsonl", file=file, output_tokens=9), "m"), 3))
    assert [body["messages"][0]["content"] for body in asked] == ["one", "two", "one"]
    assert [body["max_tokens"] for body in asked] == [3, 9, 3]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"text": "neither"}'])
def test_an_unusable_file_is_told_apart(tmp_path: Path, content: str) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(content)
    with pytest.raises(BadRequest) as caught:
        next(bodies(BenchSettings(dataset="jsonl", file=file), "m"))
    assert caught.value.param == "file"
