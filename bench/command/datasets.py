"""The questions to ask: bodies of chat completions, the same ones for the same seed."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from millstream.bench.command.settings import BenchSettings
from millstream.common.errors import BadRequest

Body = dict[str, Any]
SYLLABLES = ("ka", "lo", "mi", "ter", "sun", "ro", "ne", "pa", "vi", "dor", "es", "tu")


def bodies(settings: BenchSettings, model: str) -> Iterator[Body]:
    """Yields requests without end. Raises `BadRequest` for a file that cannot be used."""
    match settings.dataset:
        case "synthetic":
            asked = synthetic(settings)
        case "turns":
            asked = conversations(settings)
        case "jsonl":
            asked = lines(settings.file, settings.output_tokens)
    for body in asked:
        yield {**_form(settings, model), **body}


def _form(settings: BenchSettings, model: str) -> Body:
    form: Body = {"model": model, "temperature": 0}
    return form | {"stream": True, "stream_options": {"include_usage": True}} if settings.stream else form


def words(chance: random.Random, count: int) -> str:
    """Returns that many made-up words."""
    return " ".join("".join(chance.choices(SYLLABLES, k=chance.randint(1, 3))) for _ in range(count))


def _about(chance: random.Random, mean: int, spread: float) -> int:
    return max(1, round(mean * chance.uniform(1 - spread, 1 + spread)))


def synthetic(settings: BenchSettings) -> Iterator[Body]:
    """Yields prompts and answers of given lengths."""
    chance = random.Random(settings.seed)
    while True:
        text = words(chance, _about(chance, settings.input_words, settings.spread))
        yield {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": _about(chance, settings.output_tokens, settings.spread),
        }


def conversations(settings: BenchSettings) -> Iterator[Body]:
    """Yields turn after turn, each with all that was said before: what a prefix cache is for. A few conversations go on
    at the same time; the assistant's lines are made up, so that the load does not depend on the answers."""
    chance = random.Random(settings.seed)
    system: Body = {"role": "system", "content": words(chance, settings.system_words)}
    while True:
        group: list[list[Body]] = [[system] for _ in range(8)]
        for _ in range(settings.turns):
            for said in group:
                said.append({"role": "user", "content": words(chance, settings.input_words)})
                yield {"messages": list(said), "max_tokens": _about(chance, settings.output_tokens, settings.spread)}
                said.append({"role": "assistant", "content": words(chance, settings.output_tokens)})


def lines(file: Path | None, output_tokens: int) -> Iterator[Body]:
    """Yields the bodies of a JSONL file, over and over."""
    if file is None:
        raise BadRequest("A JSONL dataset needs its file.", param="file")
    try:
        rows = [_row(number, line) for number, line in enumerate(file.read_text().splitlines(), 1) if line.strip()]
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}.", param="file") from error
    if not rows:
        raise BadRequest(f"{file} has no lines.", param="file")
    while True:
        for row in rows:
            yield {"max_tokens": output_tokens, **row}


def _row(number: int, line: str) -> Body:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise BadRequest(f"Line {number} is not JSON: {error}.", param="file") from error
    if not isinstance(row, dict) or not ("messages" in row or "prompt" in row):
        raise BadRequest(f"Line {number} needs `messages` or `prompt`.", param="file")
    given = cast(Body, row)
    text = given.pop("prompt", None)
    return given if text is None else given | {"messages": [{"role": "user", "content": text}]}
