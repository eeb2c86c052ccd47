"""The process in which guides are tried out: what happens to it happens to nobody else."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest

from millstream.common.errors import BadGrammar, EngineError
from millstream.common.job import Guide
from millstream.worker.engines.grammar import trial as module
from millstream.worker.engines.grammar.compiling import Vocabulary
from millstream.worker.engines.grammar.trial import Abandoned, GuideTrial
from millstream.worker.engines.guide_limits import GuideLimits
from tests.worker.engines.grammar.guides_of_every_size import chain_of_references, choices, properties

FINE = Guide("regex", "[a-z]{3}", "guided_regex")
SLOW = choices(300_000)

MakeTrial = Callable[..., GuideTrial]


def wanted() -> bool:
    return True


@pytest.fixture
def make(vocabulary: Vocabulary) -> Iterator[MakeTrial]:
    made: list[GuideTrial] = []

    def one(**limits: float) -> GuideTrial:
        made.append(GuideTrial(vocabulary, GuideLimits(**limits)))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_one_process_serves_guide_after_guide(make: MakeTrial) -> None:
    trial = make()
    assert trial.pid is None
    trial.run(FINE, wanted)
    first = trial.pid
    with pytest.raises(BadGrammar, match="unclosed group") as refused:
        trial.run(Guide("regex", "(a", "guided_regex"), wanted)
    trial.run(FINE, wanted)
    assert (refused.value.param, trial.pid) == ("guided_regex", first)


def test_a_chain_that_overflows_a_usual_stack_is_compiled(make: MakeTrial) -> None:
    """Three thousand references end a thread with the usual eight megabytes."""
    make(seconds=60).run(chain_of_references(3000), wanted)


def test_a_crash_is_the_guides_fault_and_the_next_guide_is_served(make: MakeTrial) -> None:
    trial = make(seconds=60)
    trial.run(FINE, wanted)
    assert trial.pid is not None
    first = trial.pid
    killer = threading.Timer(0.3, os.kill, (first, signal.SIGSEGV))
    killer.start()
    with pytest.raises(BadGrammar, match=r"Cannot compile the choice guide: the compiler crashed") as refused:
        trial.run(SLOW, wanted)
    assert refused.value.param == "guided_choice"
    assert not psutil.pid_exists(first)
    trial.run(FINE, wanted)
    assert trial.pid not in (None, first)


def test_a_process_that_ended_while_it_was_idle_is_replaced(make: MakeTrial) -> None:
    trial = make()
    trial.run(FINE, wanted)
    assert trial.pid is not None
    os.kill(trial.pid, signal.SIGKILL)
    psutil.Process(trial.pid).wait(20)
    trial.run(FINE, wanted)


def test_memory_is_bounded(make: MakeTrial) -> None:
    trial = make(memory=48, seconds=60)
    with pytest.raises(BadGrammar, match="too much memory"):
        trial.run(properties(9000), wanted)
    trial.run(FINE, wanted)


def test_what_takes_too_long_is_ended(make: MakeTrial) -> None:
    trial = make(seconds=0.3)
    with pytest.raises(BadGrammar, match=r"longer than 0\.3 s .*`guide_seconds`"):
        trial.run(SLOW, wanted)
    assert trial.pid is None
    trial.run(FINE, wanted)


def test_what_nobody_waits_for_is_ended(make: MakeTrial) -> None:
    trial = make(seconds=60)
    with pytest.raises(Abandoned):
        trial.run(SLOW, lambda: trial.pid is None)
    assert trial.pid is None


def test_memory_of_a_heavy_guide_is_given_back(make: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAVY", 0.0)
    trial = make()
    trial.run(FINE, wanted)
    assert trial.pid is None


def test_a_process_that_cannot_start_is_our_fault(vocabulary: Vocabulary) -> None:
    trial = GuideTrial(Vocabulary("no tokenizer", 1, []), GuideLimits())
    with pytest.raises(EngineError, match="did not start"):
        trial.run(FINE, wanted)
    assert trial.pid is None


def test_it_ends_with_its_worker(make: MakeTrial) -> None:
    trial = make()
    trial.run(FINE, wanted)
    assert trial.pid is not None and trial._connection is not None
    process = psutil.Process(trial.pid)
    trial._connection.close()
    process.wait(20)
