"""`GET /v1/jobs/preempted`: jobs that gave up their slots, and the workers on which they went on."""

import time
from typing import Any

import pytest

from millstream.common.broker import workers
from millstream.common.broker.workers import Claimed, evict_now
from millstream.common.chunk import Seq
from millstream.common.job import WorkerId
from tests.gateway.admin.conftest import House
from tests.harness.queue_site import MODEL, Site

PREEMPTED = "/v1/jobs/preempted"
START = b'{"start":{"prompt_tokens":3}}'


async def claimed_by(site: Site, worker: str, id: str) -> Claimed:
    """Has a worker of one slot claim the job, and write a first chunk."""
    await site.beat(worker, slots="1")
    (found,) = await site.claim(worker)
    assert found.id == id
    step = workers.JobStep(found.id, found.lease, Seq(1), [START])
    await workers.step(site.broker, MODEL, WorkerId(worker), [step])
    return found


async def give_way(site: Site, worker: str, job: Claimed) -> None:
    """Has the worker give up a job that it is asked for."""
    assert (await site.job(job.id))["preempt"]
    held = [(job.id, job.lease)]
    assert await workers.preempt(site.broker, MODEL, WorkerId(worker), held) == ["queued"]


async def moved(house: House, id: str = "slow", tenant: str = "acme", urgent: str = "urgent") -> None:
    """Has a batch job give way to an urgent one on worker-a, and go on on worker-b."""
    await house.site.beat("worker-a", slots="1")
    await house.wait_for([id], tenant=tenant, tier="batch")
    job = await claimed_by(house.site, "worker-a", id)
    await house.wait_for([urgent], tenant=tenant)
    await give_way(house.site, "worker-a", job)
    await claimed_by(house.site, "worker-a", urgent)


async def listed(client: Any, **asked: Any) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await client.get(PREEMPTED, params=asked)).json()["data"]
    return data


async def test_a_preempted_job_waits_and_then_goes_on_elsewhere(house: House) -> None:
    await moved(house)
    (told,) = await listed(house.acme)
    (move,) = told.pop("moves")
    assert told == {
        "id": "slow",
        "object": "preempted_job",
        "model": MODEL,
        "tenant": "acme",
        "tier": "batch",
        "state": "queued",
    }
    assert abs(move.pop("at") - time.time()) < 60
    assert move == {"worker": "worker-a", "after_chunk": 1, "to": "", "since": None}
    await house.site.beat("worker-b", slots="1")
    (again,) = await house.site.claim("worker-b")
    (told,) = await listed(house.acme)
    assert again.id == "slow" and told["state"] == "running"
    (move,) = told["moves"]
    assert (move["worker"], move["to"], move["after_chunk"]) == ("worker-a", "worker-b", 1)
    assert move["since"] >= move["at"]
    leases = (await house.acme.get("/v1/jobs/slow")).json()["leases"]
    assert [lease["preempted"] for lease in leases] == [True, False]
    await house.site.finish("worker-b", again)
    (told,) = await listed(house.acme)
    assert told["state"] == "finished" and told["moves"] == [move]


async def test_an_operator_who_asks_for_a_job_back_moves_it_too(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["a1"])
    job = await claimed_by(house.site, "worker-a", "a1")
    assert (await house.admin.post("/v1/jobs/a1/requeue")).json()["status"] == "requeueing"
    await give_way(house.site, "worker-a", job)
    assert [each["id"] for each in await listed(house.acme)] == ["a1"]


async def test_a_job_whose_worker_died_was_not_preempted(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["slow"], tier="batch")
    job = await claimed_by(house.site, "worker-a", "slow")
    await house.wait_for(["urgent"])
    assert (await house.site.job(job.id))["preempt"]  # it was asked to, and died first
    await evict_now(house.site.broker, MODEL, WorkerId("worker-a"), 9)
    assert await listed(house.acme) == []


async def test_one_that_is_cancelled_meanwhile_went_nowhere(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["slow"], tier="batch")
    job = await claimed_by(house.site, "worker-a", "slow")
    await house.wait_for(["urgent"])
    await house.acme.post("/v1/jobs/slow/cancel")
    await workers.preempt(house.site.broker, MODEL, WorkerId("worker-a"), [(job.id, job.lease)])
    assert await listed(house.acme) == []


@pytest.mark.parametrize("limit", [1, 2])
async def test_each_tenant_sees_its_own_page_by_page_the_newest_first(house: House, limit: int) -> None:
    for at, tenant in enumerate(("acme", "zeta", "acme")):
        await moved(house, f"slow-{at}", tenant, f"urgent-{at}")
        await house.admin.post(f"/v1/jobs/urgent-{at}/cancel")
        await evict_now(house.site.broker, MODEL, WorkerId("worker-a"), 9)
        await house.admin.post(f"/v1/jobs/slow-{at}/cancel")
    pages: list[list[str]] = []
    after: dict[str, str] = {}
    while True:
        page = (await house.admin.get(PREEMPTED, params={"limit": limit, **after})).json()
        pages.append([each["id"] for each in page["data"]])
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert [id for page in pages for id in page] == ["slow-2", "slow-1", "slow-0"]
    assert max(map(len, pages)) <= limit
    assert [each["id"] for each in await listed(house.acme)] == ["slow-2", "slow-0"]
    assert [each["id"] for each in await listed(house.zeta)] == ["slow-1"]
    wrong = await house.acme.get(PREEMPTED, params={"after": "slow-1"})
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "after"
