"""The load generator against the direct server, a real one on a socket."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

import pytest
import pytest_asyncio
import uvicorn

from millstream.bench.command.load import LoadProgressShown, measured
from millstream.bench.command.processes import Processes, find, spent
from millstream.bench.command.report import Report
from millstream.bench.command.settings import BenchSettings
from millstream.bench.command.statistics import quantile, summed
from millstream.bench.lab.baseline_server import BaselineServer, app_of
from millstream.common.broker.embedded import free_port
from millstream.common.errors import BadRequest, Unavailable
from millstream.worker.engines.simulated.engine import SimulatedSettings
from tests.harness.support import wait_until


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    port = free_port()
    config = uvicorn.Config(app_of(BaselineServer(SimulatedSettings(slots=64))), port=port, log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    await serving


async def test_a_closed_loop_keeps_so_many_open_and_counts_every_token(url: str) -> None:
    told: list[LoadProgressShown] = []
    settings = BenchSettings(base_url=url, concurrency=4, requests=12, output_tokens=20)
    answers = await measured(settings, told.append)
    figures = summed(answers)
    assert (figures.requests, figures.errors, figures.tokens) == (12, {}, 240)
    assert all(answer.first is not None and answer.end is not None for answer in answers)
    assert all(answer.start < (answer.first or 0) <= (answer.end or 0) for answer in answers)
    assert 0 < figures.first_token_ms.p50 <= figures.first_token_ms.p99 <= figures.whole_ms.max
    assert told


async def test_an_open_loop_sends_at_its_own_times(url: str) -> None:
    settings = BenchSettings(base_url=url, rate=200, arrivals="even", requests=20, output_tokens=3)
    began = perf_counter()
    answers = await measured(settings)
    starts = sorted(answer.start for answer in answers)
    assert len(starts) == 20
    assert all(start - began >= 0.999 * number / 200 for number, start in enumerate(starts)), "none before its time"


async def test_whole_answers_are_read_to_their_end(url: str) -> None:
    answers = await measured(BenchSettings(base_url=url, concurrency=2, requests=4, output_tokens=5, stream=False))
    assert [(answer.status, answer.error) for answer in answers] == [(200, "")] * 4


async def test_failures_are_counted_by_kind() -> None:
    gone = BenchSettings(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m", requests=3, concurrency=1)
    figures = summed(await measured(gone))
    assert sum(figures.errors.values()) == 3
    with pytest.raises(Unavailable):
        await measured(gone.model_copy(update={"model": ""}))


async def test_a_wrong_path_is_an_error_of_its_status(url: str) -> None:
    answers = await measured(BenchSettings(base_url=f"{url}/nowhere", model="m", requests=2, concurrency=1))
    assert [answer.error for answer in answers] == ["status 404"] * 2


async def test_the_report_tells_what_a_process_paid(url: str, tmp_path: Path) -> None:
    here = Processes({"all": [os.getpid()]})
    before = here.read()
    answers = await measured(BenchSettings(base_url=url, requests=40, concurrency=8, output_tokens=30))
    report = Report(summed(answers), spent(before, here.read()))
    report.save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["tokens"] == 1200
    assert saved["cpu_seconds_per_million_tokens"]["all"] > 0
    assert saved["cpu_seconds_per_1000_requests"]["all"] == pytest.approx(saved["cpu_seconds"]["all"] * 25, rel=0.1)


def test_a_process_that_is_not_there_is_told() -> None:
    with pytest.raises(BadRequest):
        find(["gateway=no such command line anywhere 81723"])


@pytest.mark.parametrize(("q", "value"), [(0.5, 2), (0.75, 3), (0.99, 4), (1.0, 4)])
def test_quantiles_are_values_that_occurred(q: float, value: float) -> None:
    assert quantile([1, 2, 3, 4], q) == value
