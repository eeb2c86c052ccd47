"""Guides that somebody made to hurt, and many that a generator made, against the trying process: every one is compiled
or refused within the limits, and the plain ones, which are compiled without a trial, never crash and are never slow."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide, GuideKind
from millstream.worker.engines.base import GuideLimits
from millstream.worker.engines.grammar.compiling import Vocabulary
from millstream.worker.engines.grammar.limits import check
from millstream.worker.engines.grammar.plain import plain
from millstream.worker.engines.grammar.trial import Trial
from tests.worker.engines.conftest import EOS, byte_tokenizer

CORPUS = Path(__file__).parent / "corpus"
MADE = 300  # schemas of the generator
LOST = ("crashed", "took longer")  # what only the trying process could have survived

pytestmark = pytest.mark.timeout(900)


def written(name: str, kind: GuideKind, between: str = "\n") -> Iterator[Guide]:
    for value in (CORPUS / name).read_text().split(between):
        if value.strip():
            yield Guide(kind, value.strip("\n"))


def schema(pick: random.Random, depth: int = 0) -> Any:
    """A random schema: mostly sense, with any keyword anywhere."""
    made: dict[str, Any] = {}
    for _ in range(pick.randint(1, 4)):
        made |= pick.choice(
            [
                {"type": pick.choice(["object", "array", "string", "integer", "number", "boolean", "null"])},
                {"enum": [pick.choice([None, 1, "a", "b" * 40]) for _ in range(pick.randint(1, 30))]},
                {pick.choice(["minLength", "maxLength", "minItems", "maxItems"]): pick.randint(0, 256)},
                {pick.choice(["minimum", "maximum", "exclusiveMinimum"]): pick.uniform(-1e6, 1e6)},
                {"format": pick.choice(["date-time", "uuid", "email", "uri", "ipv6", "nonsense"])},
                {"$ref": pick.choice(["#", "#/$defs/a", "#/properties/p0", "#/nowhere"])},
                {"additionalProperties": pick.choice([True, False])},
                {"required": ["p0", "p1"]},
                {"pattern": pick.choice(["^a+$", "[a-z]{1,40}", "(a|b)*c"])},
            ]
        )
        if depth < 5:
            inner = [schema(pick, depth + 1) for _ in range(pick.randint(1, 4))]
            key = pick.choice(["properties", "items", "anyOf", "allOf", "oneOf", "$defs"])
            named = {f"p{number}": each for number, each in enumerate(inner)} | {"a": inner[0]}
            made[key] = named if key in ("properties", "$defs") else inner[0] if key == "items" else inner
    return made


def verdict(trial: Trial, guide: Guide) -> str:
    """Empty for one that is compiled, else why not."""
    try:
        check(guide, GuideLimits())
        trial.run(guide, lambda: True)
    except BadGrammar as error:
        return error.message
    return ""


@pytest.fixture
def trial() -> Iterator[Trial]:
    vocabulary = Vocabulary(byte_tokenizer().backend_tokenizer.to_str(), 260, [EOS])
    made = Trial(vocabulary, GuideLimits(seconds=20))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "kind", "between"),
    [
        ("regexes.txt", "regex", "\n"),
        ("schemas.txt", "json_schema", "\n"),
        ("grammars.txt", "grammar", "\n---\n"),
    ],
)
def test_every_guide_of_the_corpus_is_compiled_or_refused(
    trial: Trial, name: str, kind: GuideKind, between: str
) -> None:
    guides = list(written(name, kind, between))
    told = {guide.value: verdict(trial, guide) for guide in guides}
    assert len(told) > 10 and "" in told.values()
    assert {
        value: why for value, why in told.items() if plain(Guide(kind, value)) and any(w in why for w in LOST)
    } == {}


def test_plain_schemas_never_need_the_trial(trial: Trial) -> None:
    pick = random.Random(20)
    chosen = [guide for _ in range(MADE) if plain(guide := Guide("json_schema", json.dumps(schema(pick))))]
    assert len(chosen) > 10, "the generator makes too few of them"
    told = [(guide.value, verdict(trial, guide)) for guide in chosen]
    assert [(value, why) for value, why in told if any(word in why for word in LOST)] == []
