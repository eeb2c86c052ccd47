"""Whom the watchdog looks at, and when."""

import pytest

from millstream.common.chunk import NOTHING_YET
from millstream.common.job import JobId, ModelName
from millstream.gateway.queue.job_stream import Follower
from millstream.gateway.queue.timing_wheel import REST, TICK, Rounds
from millstream.gateway.queue.watchdog import QUEUED, pause_at

NOW = 1000.0


def follower(look_at: float) -> Follower:
    made = Follower(ModelName("m"), JobId("j"), "t", NOTHING_YET)
    made.look_at = look_at
    return made


@pytest.mark.parametrize(("position", "most", "pause"), [(0, 15, QUEUED), (48, 15, 8), (10_000, 15, 15), (1, 0.5, 0.5)])
def test_a_place_is_asked_about_more_rarely_the_farther_back_it_is(position: int, most: float, pause: float) -> None:
    assert pause_at(position, most) == pause


def test_a_stream_that_rests_is_due_when_its_time_has_come_and_not_before() -> None:
    rounds, soon, late = Rounds(), follower(NOW + TICK), follower(NOW + 10 * REST)
    for each in (soon, late):
        rounds.add(each)
        rounds.looked(each, NOW)
    assert (soon.resting, late.resting > 0) == (0, True)
    assert rounds.due(NOW) == []
    assert rounds.due(NOW + TICK) == [soon]
    assert rounds.due(NOW + 10 * REST - TICK) == [soon]
    assert set(rounds.due(NOW + 10 * REST + TICK)) == {soon, late} and not late.resting


def test_a_stream_that_is_roused_is_looked_at_in_each_round_again() -> None:
    rounds, late = Rounds(), follower(NOW + 10 * REST)
    rounds.add(late)
    rounds.looked(late, NOW)
    rounds.rouse(late)
    late.look_at = NOW + TICK
    assert rounds.due(NOW + TICK) == [late]


def test_a_stream_that_has_gone_is_never_due_whether_it_rested_or_was_being_looked_at() -> None:
    rounds, resting, looked = Rounds(), follower(NOW + 10 * REST), follower(NOW)
    for each in (resting, looked):
        rounds.add(each)
    rounds.looked(resting, NOW)
    assert rounds.due(NOW) == [looked]
    for each in (resting, looked):
        rounds.remove(each)
        rounds.remove(each)  # once more is fine
    looked.look_at = NOW + 10 * REST
    rounds.looked(looked, NOW)  # the question about it was under way when it left
    assert rounds.due(NOW + 20 * REST) == []
