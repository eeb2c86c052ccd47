"""The watchdog looks at the right streams at the right time."""

import pytest

from millstream.common.chunk import NOTHING_YET
from millstream.common.job import JobId, ModelName
from millstream.gateway.queue.job_stream import JobStream
from millstream.gateway.queue.timing_wheel import REST, TICK, TimingWheel
from millstream.gateway.queue.watchdog import QUEUED, pause_at

NOW = 1000.0


def job_stream(look_at: float) -> JobStream:
    made = JobStream(ModelName("m"), JobId("j"), "t", NOTHING_YET)
    made.look_at = look_at
    return made


@pytest.mark.parametrize(("position", "most", "pause"), [(0, 15, QUEUED), (48, 15, 8), (10_000, 15, 15), (1, 0.5, 0.5)])
def test_a_place_is_asked_about_more_rarely_the_farther_back_it_is(position: int, most: float, pause: float) -> None:
    assert pause_at(position, most) == pause


def test_a_stream_that_rests_is_due_when_its_time_has_come_and_not_before() -> None:
    wheel, soon, late = TimingWheel(), job_stream(NOW + TICK), job_stream(NOW + 10 * REST)
    for each in (soon, late):
        wheel.add(each)
        wheel.looked(each, NOW)
    assert (soon.resting, late.resting > 0) == (0, True)
    assert wheel.due(NOW) == []
    assert wheel.due(NOW + TICK) == [soon]
    assert wheel.due(NOW + 10 * REST - TICK) == [soon]
    assert set(wheel.due(NOW + 10 * REST + TICK)) == {soon, late} and not late.resting


def test_a_stream_that_is_roused_is_looked_at_in_each_round_again() -> None:
    wheel, late = TimingWheel(), job_stream(NOW + 10 * REST)
    wheel.add(late)
    wheel.looked(late, NOW)
    wheel.rouse(late)
    late.look_at = NOW + TICK
    assert wheel.due(NOW + TICK) == [late]


def test_a_stream_that_has_gone_is_never_due_whether_it_rested_or_was_being_looked_at() -> None:
    wheel, resting, looked = TimingWheel(), job_stream(NOW + 10 * REST), job_stream(NOW)
    for each in (resting, looked):
        wheel.add(each)
    wheel.looked(resting, NOW)
    assert wheel.due(NOW) == [looked]
    for each in (resting, looked):
        wheel.remove(each)
        wheel.remove(each)  # once more is fine
    looked.look_at = NOW + 10 * REST
    wheel.looked(looked, NOW)  # the question about it was under way when it left
    assert wheel.due(NOW + 20 * REST) == []
