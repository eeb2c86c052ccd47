"""`/v1/jobs` lists what ended, too: by state, model and tenant, by page, bounded, and gone with what was kept."""

from typing import Any

import httpx
import pytest

from millstream.common.broker import jobs, keys, workers
from millstream.common.broker.workers import evict_now
from millstream.common.chunk import Chunk, Failure, Seq, Start, encode_chunk
from millstream.common.job import JobId, WorkerId
from tests.gateway.admin.conftest import House
from tests.gateway.admin.test_jobs import pages
from tests.harness.queue_site import MODEL
from tests.harness.support import wait_until


async def listed(client: httpx.AsyncClient, **filters: Any) -> list[str]:
    """Returns the ids of the first page."""
    return [job["id"] for job in (await client.get("/v1/jobs", params=filters)).json()["data"]]


async def ended_jobs(house: House, *ids: str, **changes: Any) -> None:
    """Has a worker finish these jobs, in this order."""
    for id in ids:
        await house.wait_for([id], **changes)
        (claimed,) = await house.site.claim("worker-a")
        await house.site.finish("worker-a", claimed)


async def test_what_ended_is_listed_by_page_the_newest_first(house: House) -> None:
    await house.site.beat("worker-a", slots="9")
    ids = [f"a{number}" for number in range(7)]
    await ended_jobs(house, *ids)
    await house.wait_for(["live"])
    assert await pages(house.acme, state="ended", limit=3) == [ids[6:3:-1], ids[3:0:-1], ids[:1]]
    assert await listed(house.acme) == ["live"]
    (newest, *_) = (await house.acme.get("/v1/jobs?state=ended")).json()["data"]
    told = {name: newest[name] for name in ("id", "state", "finish", "tokens", "worker", "error")}
    assert told == {"id": "a6", "state": "finished", "finish": "stop", "tokens": 10, "worker": "worker-a", "error": ""}
    assert newest["ended"] > 0


async def test_a_state_asks_for_one_kind_of_end(house: House) -> None:
    await house.site.beat("worker-a", slots="9")
    await ended_jobs(house, "done")
    await house.wait_for(["stopped"])
    await house.acme.post("/v1/jobs/stopped/cancel")
    assert await listed(house.acme, state="finished") == ["done"]
    assert await listed(house.acme, state="cancelled") == ["stopped"]
    assert await listed(house.acme, state="failed") == []


FAILURES = {
    "The model's chat template refuses these messages.": "The model's chat template refuses these messages.",
    "x" * 5000: "x" * 300 + " ...",
    "模型" * 200: "模型" * 49 + "模 ...",  # 3 bytes each: cut between two characters
    "": "",
}


@pytest.mark.parametrize("message", FAILURES)
async def test_a_failed_job_tells_why_in_the_list_and_in_redis(house: House, message: str) -> None:
    await house.site.beat("worker-a", slots="9")
    await house.wait_for(["bad"])
    (claimed,) = await house.site.claim("worker-a")
    chunks = [encode_chunk(Chunk(start=Start(3))), encode_chunk(Chunk(error=Failure("bad_request", message)))]
    end = workers.End("failed", "error", b"{}", 3)
    step = workers.JobStep(claimed.id, claimed.lease, Seq(1), chunks, end)
    for _ in range(2):  # the second time as a step whose reply was lost
        await workers.step(house.site.broker, MODEL, WorkerId("worker-a"), [step])
    (told,) = (await house.acme.get("/v1/jobs?state=failed")).json()["data"]
    assert told["error"] == FAILURES[message] and told["finish"] == "error"
    assert (await house.acme.get("/v1/jobs/bad")).json()["error"] == FAILURES[message]
    assert (await house.site.job("bad")).get("error", "") == FAILURES[message]
    assert (await house.acme.get("/v1/jobs?state=finished")).json()["data"] == []


async def test_a_dead_job_is_listed_as_dead_and_as_failed(house: House) -> None:
    await house.site.beat("worker-0", slots="1")
    await house.wait_for(["a1"])
    for number in range(2):
        await house.site.beat(f"worker-{number}", slots="1")
        assert await house.site.claim(f"worker-{number}")
        await evict_now(house.site.broker, MODEL, WorkerId(f"worker-{number}"), 2)
    assert await listed(house.acme, state="failed") == await listed(house.acme, state="dead") == ["a1"]
    (dead,) = (await house.acme.get("/v1/jobs?state=dead")).json()["data"]
    assert "died" in dead["error"] and dead["ended"] > 0
    assert await listed(house.zeta, state="dead") == []
    assert (await house.acme.get("/v1/jobs?state=dead&after=nothing")).json()["error"]["param"] == "after"


async def test_each_tenant_sees_its_own_and_an_admin_all(house: House) -> None:
    await house.site.beat("worker-a", slots="9")
    await ended_jobs(house, "a1")
    await ended_jobs(house, "z1", tenant="zeta")
    assert await listed(house.acme, state="ended") == ["a1"]
    assert await listed(house.zeta, state="ended") == ["z1"]
    assert await listed(house.admin, state="ended") == ["z1", "a1"]
    assert await listed(house.admin, state="ended", tenant="acme") == ["a1"]
    assert (await house.acme.get("/v1/jobs?state=ended&tenant=zeta")).status_code == 403
    assert (await house.acme.get("/v1/jobs?state=ended&after=z1")).status_code == 400


async def test_a_tenant_with_very_many_keeps_the_newest_and_drives_nobody_out(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await ended_jobs(house, "mine")
    many = [f"z{number:04}" for number in range(1003)]
    await house.site.put(*many, tenant="zeta")
    await jobs.cancel(house.site.broker, MODEL, "", [JobId(id) for id in many])
    redis = house.site.broker.redis
    assert await redis.zcard(keys.ended(MODEL, "zeta")) == 1000
    assert await listed(house.acme, state="ended") == ["mine"]
    assert await redis.ttl(keys.ended(MODEL, "zeta")) > 0 < await redis.ttl(keys.ended(MODEL))


async def test_what_is_not_kept_any_more_is_not_listed(house: House) -> None:
    await house.site.beat("worker-a", slots="9")
    await ended_jobs(house, "short", retention_ms=5)

    async def forgotten() -> bool:
        return not await house.site.job("short")

    await wait_until(forgotten)
    await ended_jobs(house, "long")
    assert await listed(house.acme, state="ended") == ["long"]
    assert await house.site.broker.redis.zrange(keys.ended(MODEL), 0, -1) == ["long"]


async def test_refused_writes_are_told_by_worker(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["a1"])
    (claimed,) = await house.site.claim("worker-a")
    await evict_now(house.site.broker, MODEL, WorkerId("worker-a"), 9)
    late = workers.JobStep(claimed.id, claimed.lease, Seq(1), [b'{"start":{"prompt_tokens":3}}'])
    assert await workers.step(house.site.broker, MODEL, WorkerId("worker-a"), [late])
    (model,) = (await house.admin.get("/v1/cluster")).json()["models"]
    assert model["fenced"] == {"worker-a": 1}
    assert await house.site.broker.redis.ttl(keys.fenced(MODEL)) > 0


@pytest.mark.parametrize("asked", ["state=gone", "state=ended&after=nothing", "state=ended&limit=101"])
async def test_what_cannot_be_listed_is_refused_by_name(house: House, asked: str) -> None:
    answer = await house.acme.get(f"/v1/jobs?{asked}")
    assert answer.status_code == 400 and answer.json()["error"]["param"] in ("state", "after", "limit")
