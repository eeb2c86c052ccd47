"""Guides that somebody made to hurt, against the trying process: every one is compiled or refused within the limits,
and the plain ones, which are compiled without a trial, never crash and are never slow."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide, GuideKind
from millstream.worker.engines.grammar.compiling import Vocabulary
from millstream.worker.engines.grammar.limits import check
from millstream.worker.engines.grammar.plain import plain
from millstream.worker.engines.grammar.trial import GuideTrial
from millstream.worker.engines.guide_limits import GuideLimits
from tests.worker.engines.conftest import EOS, byte_tokenizer

CORPUS = Path(__file__).parent / "corpus"
LOST = ("crashed", "took longer")  # what only the trying process could have survived

pytestmark = pytest.mark.timeout(900)


def written(name: str, kind: GuideKind, between: str = "\n") -> Iterator[Guide]:
    for value in (CORPUS / name).read_text().split(between):
        if value.strip():
            yield Guide(kind, value.strip("\n"))


def verdict(trial: GuideTrial, guide: Guide) -> str:
    """Empty for one that is compiled, else why not."""
    try:
        check(guide, GuideLimits())
        trial.run(guide, lambda: True)
    except BadGrammar as error:
        return error.message
    return ""


@pytest.fixture
def trial() -> Iterator[GuideTrial]:
    vocabulary = Vocabulary(byte_tokenizer().backend_tokenizer.to_str(), 260, [EOS])
    made = GuideTrial(vocabulary, GuideLimits(seconds=20))
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
    trial: GuideTrial, name: str, kind: GuideKind, between: str
) -> None:
    guides = list(written(name, kind, between))
    told = {guide.value: verdict(trial, guide) for guide in guides}
    assert len(told) > 10 and "" in told.values()
    assert {
        value: why for value, why in told.items() if plain(Guide(kind, value)) and any(w in why for w in LOST)
    } == {}
