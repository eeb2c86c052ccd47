"""The estimate of a wait, from what the workers measured."""

import pytest

from millstream.common.broker.models.directory import ModelInfo, WorkerInfo
from millstream.common.job import WorkerId
from millstream.gateway.queue.wait_estimate import LEAST, MOST, Service, estimate, service
from tests.harness.queue_site import MODEL


def worker(name: str, seconds: str, slots: int = 2, *, state: str = "ready", alive: bool = True) -> WorkerInfo:
    about = {"state": state, "job_seconds": seconds}
    return WorkerInfo(WorkerId(name), MODEL, alive=alive, load=0, slots=slots, speed=1.0, details=about)


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([worker("a", "2"), worker("b", "4", slots=4)], Service(2.0, 2)),
        ([worker("a", "2"), worker("new", "0")], Service(2.0, 2)),  # not measured: like the mean of the others
        ([worker("a", "2"), worker("b", "1", alive=False)], Service(1.0, 1)),
        ([worker("a", "2"), worker("b", "1", state="sick"), worker("c", "1", state="draining")], Service(1.0, 3)),
        ([worker("a", "2", state="sick")], Service(0.0, 1)),
        ([], Service(0.0, 0)),
    ],
)
def test_the_rate_is_that_of_the_workers_that_take_jobs(workers: list[WorkerInfo], expected: Service) -> None:
    assert service(ModelInfo(MODEL, workers, waiting=0)) == expected


def test_an_estimate_has_bounds_and_is_none_while_nothing_is_measured() -> None:
    assert estimate(10, 2.0) == 5.0
    assert (estimate(1, 1000.0), estimate(10**6, 1.0), estimate(3, 0.0)) == (LEAST, MOST, None)
