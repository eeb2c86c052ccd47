"""The use by day and model is counted once as each job settles; the tenant sees its own, an operator all."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from rich.console import Console

from millstream.cli.inspect.batches import Row, row, rows, table
from millstream.cli.inspect.batches import run as run_batches
from millstream.cli.inspect.usage_by_day import show_days
from millstream.cli.settings import BatchesSettings
from millstream.common.broker import keys, workers
from millstream.common.broker.accounts.usage import EPOCH, read_usage
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.jobs import Envelope, NewJob, submit
from millstream.common.broker.models.directory import announce
from millstream.common.broker.records.batches import Batches
from millstream.common.chunk import Chunk, Seq, Usage, encode_chunk
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt, WorkerId
from millstream.common.settings import ClusterSettings
from millstream.gateway.http.batch_metrics import batch_text
from tests.gateway.background.cluster import gateway

MODEL, WORKER = ModelName("m"), WorkerId("worker-1")


async def job(broker: Broker, id: str, tenant: str, usage: Usage) -> None:
    """A job's whole life."""
    about = {"slots": "4", "speed": "1", "state": "ready"}
    await workers.beat(broker, MODEL, WORKER, 60_000, about, [])
    envelope = Envelope(GatewayId("g"), tenant, "default", timeout_ms=60_000, retention_ms=60_000)
    await submit(broker, MODEL, envelope, [NewJob(JobId(id), JobRequest(TextPrompt("hello")))])
    [claimed] = (await workers.claim(broker, MODEL, WORKER, 1)).jobs
    last = encode_chunk(Chunk(finish="stop", usage=usage))
    end = workers.End("finished", "stop", encode_chunk(usage), usage.prompt + usage.completion)
    step = workers.JobStep(claimed.id, claimed.lease, Seq(1), [last], end)
    for _ in range(2):  # told again, it changes nothing
        assert (await workers.step(broker, MODEL, WORKER, [step]))[0][0] == "ok"


async def test_usage_is_counted_once_for_its_tenant(redis_url: str, tmp_path: Path) -> None:
    async with Broker(redis_url) as broker:
        await announce(broker, MODEL)
        await job(broker, "j1", "team a", Usage(prompt=10, completion=5, cached=4))
        await job(broker, "j2", "team a", Usage(prompt=1, completion=2))
        await job(broker, "j3", "b", Usage(prompt=7, completion=7))
        day = datetime.now(UTC).date()
        used = await read_usage(broker, day, day)
        assert [(each.tenant, each.jobs, each.prompt_tokens, each.completion_tokens) for each in used] == [
            ("b", 1, 7, 7),
            ("team a", 2, 11, 7),
        ]
        assert used[1].cached_tokens == 4 and {each.day for each in used} == {day}
        ttl = await broker.redis.pttl(keys.usage(MODEL, (day - EPOCH).days))
        assert 0 < ttl <= 400 * 86400 * 1000
    api_keys = ["team a:sk-aaaaaaaaaaaaaaaa", "c:sk-cccccccccccccccc", "admin:sk-dddddddddddddddd"]
    async with gateway(redis_url, tmp_path, api_keys=api_keys) as url, httpx.AsyncClient(base_url=url) as http:
        mine = {"Authorization": "Bearer sk-aaaaaaaaaaaaaaaa"}
        [told] = (await http.get("/v1/usage", headers=mine)).json()["data"]
        assert told == {
            "object": "usage", "date": day.isoformat(), "model": "m", "tenant": "team a", "jobs": 2,
            "prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 4, "total_tokens": 18,
        }  # fmt: skip
        others = {"Authorization": "Bearer sk-cccccccccccccccc"}
        assert (await http.get("/v1/usage", headers=others)).json()["data"] == []
        assert (await http.get("/v1/usage", headers=others, params={"tenant": "*"})).status_code == 403
        root = {"Authorization": "Bearer sk-dddddddddddddddd"}
        every = (await http.get("/v1/usage", headers=root, params={"tenant": "*"})).json()["data"]
        assert [each["tenant"] for each in every] == ["b", "team a"]
        [one] = (await http.get("/v1/usage", headers=root, params={"tenant": "b"})).json()["data"]
        assert one["total_tokens"] == 14
        before = {"end_date": (day - timedelta(days=1)).isoformat()}
        assert (await http.get("/v1/usage", headers=mine, params=before)).json()["data"] == []
        first = {"end_date": "0001-01-01"}
        assert (await http.get("/v1/usage", headers=mine, params=first)).json()["data"] == []
        assert (await http.get("/v1/usage", headers=mine, params={"model": "other"})).json()["data"] == []
        for wrong in ({"start_date": "soon"}, {"start_date": "2020-01-01"}, {"start_date": "2999-01-01"}):
            refused = await http.get("/v1/usage", headers=mine, params=wrong)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "start_date")


async def test_the_operators_table(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with Broker(redis_url) as broker:
        await announce(broker, MODEL)
        await job(broker, "j1", "team-a", Usage(prompt=10, completion=5))
    await show_days(ClusterSettings(redis_url=redis_url))
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[1:] == ["team-a", "m", "1", "10", "5", "0"] and date.fromisoformat(line[0])


async def test_batches_on_the_terminal(redis_url: str) -> None:
    async with Broker(redis_url) as broker:
        batches = Batches(broker)
        await batches.create("batch_1", {"tenant": "a", "created_at": 1}, 1, 60)
        [new] = await rows(batches)
        assert (new.status, new.done, new.left) == ("validating", 0, "-")
        moved = await batches.move("batch_1", ("validating",), "in_progress", {"total": 200, "completed": 20})
        assert moved == (True, "in_progress")
        [running] = await rows(batches)
        assert (running.total, running.done) == (200, 20)
        figures = (await batch_text(batches)).decode()
        assert 'millstream_batches{status="in_progress"} 1.0' in figures
        assert 'millstream_batch_lines{outcome="completed"} 20.0' in figures
        assert 'millstream_batch_lines{outcome="open"} 180.0' in figures
    now = {"tenant": "a", "status": "in_progress", "in_progress_at": "100", "total": "200", "completed": "20"}
    assert row("b", now, 110.0).left == "0:01:30" and row("b", now, 110.0).rate == 2.0
    console = Console(width=200)
    with console.capture() as shown:
        console.print(table([Row("batch_1", "a", "m", "in_progress", 200, 50, 1, 10.0)]))
    assert "51/200" in shown.get()
    long = Row(f"batch_{'0' * 24}", "a tenant", "a-model-with-a-long-name", "in_progress", 200, 50, 1, 10.0)
    narrow = Console(width=90, soft_wrap=True)
    with narrow.capture() as shown:
        narrow.print(table([long]))
    assert all(word in shown.get() for word in (long.id, "in_progress", "51/200", "0:00:29"))


async def test_batches_in_a_pipe(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    identity, model = f"batch_{'0' * 24}", "a-model-with-quite-a-long-name-for-a-table"
    async with Broker(redis_url) as broker:
        await Batches(broker).create(identity, {"tenant": "a", "model": model, "created_at": 1}, 1, 60)
    await asyncio.to_thread(run_batches, BatchesSettings(redis_url=redis_url))
    told = capsys.readouterr().out.splitlines()[1].split()
    assert told[:4] == [identity, "a", model, "validating"]


def test_no_batch_is_said(redis_url_sync: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_batches(BatchesSettings(redis_url=redis_url_sync)) == 0
    assert "No batch is under way." in capsys.readouterr().out


@pytest.fixture
def redis_url_sync(valkey: object) -> str:
    from redis import Redis as Client

    url = str(getattr(valkey, "url", ""))
    with Client.from_url(url) as client:
        client.flushall()
    return url


async def test_what_a_batch_leaves_has_a_time_to_live(redis_url: str) -> None:
    async with Broker(redis_url) as broker, Redis.from_url(redis_url, decode_responses=True) as redis:
        await Batches(broker).create("batch_1", {"tenant": "a"}, 1, 60)
        assert 0 < await redis.pttl(keys.batch_state("batch_1")) <= 60_000
