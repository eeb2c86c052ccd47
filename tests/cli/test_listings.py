"""`models`, `workers`, `jobs` and `doctor` against a real queue with a worker and jobs in it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from millstream.cli.inspect.doctor import DoctorFinding, background, examine, served
from millstream.cli.inspect.servers import queue
from millstream.cli.inspect.tables import show_jobs, show_models, show_workers
from millstream.cli.inspect.top import watch
from millstream.cli.settings import DoctorSettings, JobsSettings, TopSettings, WorkersSettings
from millstream.cli.up.eviction import evictor, workers_of_process
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.jobs import Envelope, NewJob, submit
from millstream.common.broker.models.directory import announce, census
from millstream.common.broker.models.inspection import live_jobs, server_facts
from millstream.common.broker.workers import beat, claim, evict_now
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt, WorkerId
from millstream.common.process.command import host_name
from millstream.common.process.supervise import ChildExit
from millstream.common.settings import ClusterSettings
from millstream.gateway.background.arq_worker import ArqQueue, ArqRunner, Task
from millstream.gateway.background.health import QUEUE, at_work
from tests.harness.support import wait_until

MODEL, WORKER, PID = ModelName("tiny"), WorkerId("worker-1"), 4321
NOWHERE = "redis://127.0.0.1:9/0"


@pytest_asyncio.fixture
async def broker(redis_url: str) -> AsyncIterator[Broker]:
    """A queue with one worker of one slot, which runs the first of two jobs."""
    about = {
        "slots": "1",
        "speed": "12.5",
        "state": "ready",
        "host": host_name(),
        "pid": str(PID),
        "engine": "simulated",
    }
    envelope = Envelope(GatewayId("g"), "default", "default", timeout_ms=60_000, retention_ms=60_000)
    async with Broker(redis_url) as broker:
        await announce(broker, MODEL)
        await beat(broker, MODEL, WORKER, 60_000, about, [])
        for number in (1, 2):
            await submit(broker, MODEL, envelope, [NewJob(JobId(f"job-{number}"), JobRequest(TextPrompt("hi \x9b2J")))])
        await claim(broker, MODEL, WORKER, 1)
        yield broker


async def test_jobs_tell_who_runs_them_and_how_long_they_have(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    running, waiting = await live_jobs(broker, MODEL)
    assert (running.id, running.worker, waiting.id, waiting.state) == ("job-1", WORKER, "job-2", "queued")
    assert 0 <= running.age < 50 < running.left <= 60
    assert len(await live_jobs(broker, MODEL, limit=1)) == 1
    await show_jobs(JobsSettings(redis_url=broker.url))
    assert "job-2" in capsys.readouterr().out


async def test_jobs_that_kept_killing_workers_are_kept_for_an_operator(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    await evict_now(broker, MODEL, WORKER, max_attempts=1)
    await show_jobs(JobsSettings(redis_url=broker.url, failed=True))
    listed = capsys.readouterr().out
    assert "job-1" in listed
    assert "died 1 times" in listed
    assert r'{"type":"text","text":"hi \u009b2J"}' in listed  # a request steers no terminal


async def test_models_and_workers_are_listed(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    await show_models(ClusterSettings(redis_url=broker.url))
    model = capsys.readouterr().out.splitlines()[-1].split()
    assert model == ["tiny", "1", "1", "1", "1", "simulated", "0"]
    assert await show_workers(WorkersSettings(redis_url=broker.url)) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:5] == [WORKER, "tiny", "ready", "1/1", "12.5"]


async def test_here_is_a_health_check(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = WorkersSettings(redis_url=broker.url, here=True)
    assert await show_workers(here) == 0
    monkeypatch.setattr("millstream.cli.inspect.tables.host_name", lambda: "another-machine")
    assert await show_workers(here) == 1
    assert "No worker is registered" in capsys.readouterr().out


async def test_a_worker_seen_to_die_loses_its_jobs_at_once(broker: Broker) -> None:
    (found,) = await workers_of_process(broker, PID)
    assert found.id == WORKER
    assert await workers_of_process(broker, PID + 1) == []
    await evictor(broker, 3)(ChildExit("worker-1", PID, -9, 1.0, False, ()))
    assert (await census(broker))[0].workers == []
    assert {job.state for job in await live_jobs(broker, MODEL)} == {"queued"}


async def test_a_worker_that_left_by_itself_is_not_evicted(broker: Broker) -> None:
    await evictor(broker, 3)(ChildExit("worker-1", PID, 0, 1.0, True, ()))
    assert (await census(broker))[0].live == 1


async def test_eviction_waits_for_the_lease_when_redis_is_away() -> None:
    async with Broker(NOWHERE) as broker:
        await evictor(broker, 3)(ChildExit("worker-1", PID, -9, 1.0, False, ()))


def graded(findings: list[DoctorFinding], word: str) -> list[tuple[str, str]]:
    return [(finding.grade, finding.what) for finding in findings if word in finding.what]


async def test_doctor_says_what_is_there_and_what_is_not(broker: Broker) -> None:
    findings = await examine(DoctorSettings(redis_url=broker.url, gateway_url="http://127.0.0.1:9"))
    assert graded(findings, "model tiny") == [("good", "model tiny: 1 live workers, 1 jobs wait")]
    assert [grade for grade, _ in graded(findings, "gateway http")] == ["bad"]
    assert [grade for grade, _ in graded(findings, "answers (version")] == ["good"]


async def test_doctor_without_redis_names_the_remedy() -> None:
    findings = await examine(DoctorSettings(redis_url=NOWHERE, gateway_url="http://127.0.0.1:9"))
    (bad,) = [finding for finding in findings if finding.what.startswith("queue:")]
    assert bad.grade == "bad"
    assert "MILLSTREAM_REDIS_URL" in bad.remedy


async def test_doctor_tells_whether_anybody_works_on_batches(broker: Broker) -> None:
    settings = DoctorSettings(redis_url=broker.url)
    assert [(await background(settings, waiting)).grade for waiting in (0, 3)] == ["note", "bad"]
    runner = ArqRunner(broker.url, ArqQueue(QUEUE, 1, 10.0, [Task("nothing", asyncio.sleep)]))
    working = asyncio.create_task(runner.run())
    await wait_until(lambda: at_work(broker.url), what="it gives its sign of life")
    assert (await background(settings, 3)).grade == "good"
    working.cancel()
    await asyncio.wait({working})
    assert not await at_work(broker.url)


async def test_doctor_warns_of_a_server_that_loses_jobs(broker: Broker) -> None:
    facts = await server_facts(broker)
    assert (facts.append_only, facts.fsync, facts.eviction, facts.role) == (True, "everysec", "noeviction", "master")
    await broker.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        grades = [finding.grade for finding in queue(broker.url, await server_facts(broker))]
    finally:
        await broker.redis.config_set("maxmemory-policy", "noeviction")
    assert "bad" in grades


async def test_doctor_knows_of_models_that_are_loaded_on_demand(broker: Broker) -> None:
    await announce(broker, ModelName("later"))
    assert [grade for grade, _ in graded(list(served(await census(broker))), "model later")] == ["bad"]
    await beat(broker, MODEL, WORKER, 60_000, {"state": "ready", "slots": "1", "on_demand": "other later"}, [])
    (found,) = graded(list(served(await census(broker))), "model later")
    assert found == ("good", "model later: not loaded, 1 workers load it when it is asked for")


async def test_no_id_is_cut_short_however_narrow_the_terminal(
    broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = WorkerId("worker-" + "x" * 60)
    await beat(broker, MODEL, long, 60_000, {"state": "sick", "slots": "1"}, [])
    await show_workers(WorkersSettings(redis_url=broker.url))
    await watch(TopSettings(redis_url=broker.url))  # not a terminal: one look
    listed, shown = capsys.readouterr().out.split("policy")
    assert f"{long}  tiny   sick" in listed and long in shown


def test_doctor_tells_a_cluster_without_workers_how_to_start_one() -> None:
    (finding,) = served([])
    assert finding.grade == "bad"
    assert "millstream worker" in finding.remedy
