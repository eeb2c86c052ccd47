"""An engine that errs again and again leaves rotation, ever longer, and comes back by itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.common.broker.models.directory import model_info
from millstream.common.errors import EngineError
from millstream.gateway.queue.redis_client import RedisQueueClient
from millstream.worker.engines.base import Output
from millstream.worker.engines.simulated.engine import SimulatedEngine
from millstream.worker.jobs import circuit_breaker as health
from millstream.worker.jobs.circuit_breaker import LONGEST, TOLERATED, CircuitBreaker
from tests.harness.queue_site import MODEL, Site, chunks_of
from tests.harness.support import wait_until


def test_errors_in_a_row_make_it_sick_and_one_good_job_makes_it_well() -> None:
    engine = CircuitBreaker()
    for _ in range(TOLERATED - 1):
        engine.failed(0)
    engine.succeeded()
    engine.failed(0)
    assert not engine.sick(0)
    for _ in range(TOLERATED):
        engine.failed(10)
    assert engine.sick(10) and not engine.sick(12)
    engine.failed(12)
    assert engine.sick(15.9) and not engine.sick(16)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=80))
def test_it_is_never_given_up_for_good(story: list[tuple[bool, float]]) -> None:
    engine, now, row = CircuitBreaker(), 0.0, 0
    for good, seconds in story:
        now += seconds
        row = 0 if good else row + 1
        engine.succeeded() if good else engine.failed(now)
        assert engine.until - now <= LONGEST
        assert row < TOLERATED or engine.sick(now)


async def outcome(dispatch: RedisQueueClient, site: Site) -> str:
    one = site.submission(3)
    await dispatch.submit(one)
    last = (await chunks_of(dispatch, one.jobs[0][0], tenant=one.tenant))[-1]
    return last.error.code if last.error else str(last.finish)


async def test_a_sick_worker_gets_nothing_until_it_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SHORTEST", 0.5)
    advance, faulty = SimulatedEngine._advance, True

    def sometimes(engine: SimulatedEngine, sequence: Any) -> list[Output]:
        if not faulty:
            return advance(engine, sequence)
        engine.abort(sequence.spec.key)
        return [Output(sequence.spec.key, error=EngineError("out of order"))]

    monkeypatch.setattr(SimulatedEngine, "_advance", sometimes)
    await site.worker("w")
    dispatch = await site.gateway()
    assert [await outcome(dispatch, site) for _ in range(TOLERATED)] == ["engine_error"] * TOLERATED
    await wait_until(lambda: _state(site, "sick"))
    faulty = False
    assert await outcome(dispatch, site) == "length"  # it waited until the worker was well
    await wait_until(lambda: _state(site, "ready"))


async def _state(site: Site, state: str) -> bool:
    [worker] = (await model_info(site.broker, MODEL)).workers
    return worker.details["state"] == state
