"""`/v1/jobs`: lists by page, one job's life, cancelled and requeued; each tenant its own."""

import json
from typing import Any

import httpx
import pytest

from millstream.common.broker import jobs, workers
from millstream.common.broker.models.inspection import dead_jobs
from millstream.common.broker.workers import evict_now
from millstream.common.job import JobId, WorkerId
from tests.gateway.admin.conftest import House, chat
from tests.harness.queue_site import MODEL


async def pages(client: httpx.AsyncClient, **filters: Any) -> list[list[str]]:
    """Returns the ids of each page."""
    found: list[list[str]] = []
    after: str | None = None
    while True:
        asked = {**filters, **({"after": after} if after else {})}
        page = (await client.get("/v1/jobs", params=asked)).json()
        found.append([job["id"] for job in page["data"]])
        if not page["has_more"]:
            return found
        after = page["last_id"]


async def test_every_job_is_on_one_page_whatever_its_deadline(house: House) -> None:
    await house.site.beat("worker-a", slots="3")
    ids = [f"a{number:02}" for number in range(11)]
    for id in ids:
        await house.wait_for([id], timeout_ms=60_000 - 1000 * (int(id[1:]) % 3))
    found = await pages(house.acme, limit=4)
    assert [len(page) for page in found] == [4, 4, 3]
    assert sorted(id for page in found for id in page) == ids


async def test_lists_are_filtered_and_a_page_goes_on_after_a_job_that_ended(house: House) -> None:
    await house.site.beat("worker-a", slots="2")
    await house.wait_for(["a1", "a2", "a3", "a4"])
    await house.wait_for(["z1"], tenant="zeta")
    claimed = await house.site.claim("worker-a", 2)
    assert await pages(house.admin, state="running") == [[each.id for each in claimed]]
    assert await pages(house.admin, tenant="zeta") == [["z1"]]
    assert await pages(house.zeta) == [["z1"]]
    first = (await house.acme.get("/v1/jobs", params={"limit": 1})).json()
    await house.site.finish("worker-a", claimed[0])
    rest = (await house.acme.get("/v1/jobs", params={"after": first["last_id"]})).json()
    assert [job["id"] for job in rest["data"]] == ["a2", "a3", "a4"]


async def test_waiting_jobs_have_a_place_and_a_reason(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["a1", "a2", "a3"])
    await house.site.claim("worker-a")
    found = {job["id"]: job for job in (await house.acme.get("/v1/jobs")).json()["data"]}
    assert {id: (job["position"], job["why"]) for id, job in found.items()} == {
        "a1": (None, ""),
        "a2": (1, "all_slots_busy"),
        "a3": (2, "all_slots_busy"),
    }


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?state=nothing", "state"),
        ("/v1/jobs?after=nothing", "after"),
        ("/v1/jobs?model=nothing", "model"),
        ("/v1/jobs/dead?after=nothing", "after"),
    ],
)
async def test_what_a_list_cannot_show_is_refused_by_name(house: House, path: str, param: str) -> None:
    answer = await house.acme.get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_another_tenants_job_is_not_found(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["z1"], tenant="zeta")
    refused = await house.acme.get("/v1/jobs", params={"tenant": "zeta"})
    assert refused.status_code == 403
    asked = [
        await house.acme.get("/v1/jobs/z1"),
        await house.acme.post("/v1/jobs/z1/cancel"),
        await house.acme.get("/v1/jobs", params={"after": "z1"}),
    ]
    assert [answer.status_code for answer in asked] == [404, 404, 400]
    assert (await house.acme.post("/v1/jobs/z1/requeue")).status_code == 403
    assert (await house.zeta.get("/v1/jobs/z1")).json()["tenant"] == "zeta"


async def test_a_life_tells_waits_leases_seams_and_keys_but_not_what_was_asked(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.site.beat("worker-b", slots="1")
    await house.wait_for(["a1"])
    (claimed,) = await house.site.claim("worker-a") or await house.site.claim("worker-b")
    holder = WorkerId(claimed.lease.partition(":")[2])
    other = "worker-b" if holder == "worker-a" else "worker-a"
    chunks = [b'{"start":{"prompt_tokens":3}}', b'{"ids":[1],"text":"one"}']
    await workers.step(house.site.broker, MODEL, holder, [workers.JobStep(claimed.id, claimed.lease, 1, chunks)])
    await evict_now(house.site.broker, MODEL, holder, 3)
    (again,) = await house.site.claim(other)
    life = (await house.acme.get("/v1/jobs/a1")).json()
    assert [(span["worker"], span["after_chunk"]) for span in life["leases"]] == [(holder, 0), (other, 2)]
    assert life["leases"][0]["until"] <= life["leases"][1]["since"] and life["leases"][1]["until"] is None
    assert (life["seams"], life["chunks"], life["worker"], life["lease"]) == (1, 2, other, again.lease)
    assert life["keys"]["job"] == f"ms:{{{MODEL}}}:job:a1"
    assert f"redis-cli HGETALL 'ms:{{{MODEL}}}:job:a1'" in life["redis_cli"]
    assert '"hi"' not in json.dumps(life) and "messages" not in json.dumps(life)


async def test_an_operator_moves_a_running_job_without_its_reader_noticing(house: House) -> None:
    await house.site.worker("worker-a", slots=1, rate=40)
    texts: list[str] = []
    moved = ""
    async with house.acme.stream("POST", "/v1/chat/completions", json=chat(60)) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                texts += [choice["delta"].get("content") or "" for choice in event["choices"]]
                if len(texts) > 5 and not moved:
                    moved = (await house.admin.post(f"/v1/jobs/{event['id']}/requeue")).json()["status"]
    assert moved == "requeueing"
    undisturbed = await house.acme.post("/v1/chat/completions", json=chat(60, stream=False))
    assert "".join(texts) == undisturbed.json()["choices"][0]["message"]["content"]


async def test_a_waiting_job_is_cancelled_at_once(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["a1", "a2"])
    assert (await house.acme.post("/v1/jobs/a2/cancel")).json()["status"] == "cancelled"
    assert (await house.acme.post("/v1/jobs/a2/cancel")).json()["status"] == "cancelled"
    life = (await house.acme.get("/v1/jobs/a2")).json()
    assert (life["state"], life["usage"]["completion"], life["settled"] is not None) == ("cancelled", 0, True)


async def test_a_dead_job_gets_another_try_as_a_new_one(house: House) -> None:
    await house.site.beat("worker-0", slots="1")
    await house.wait_for(["a1"])
    for number in range(2):
        await house.site.beat(f"worker-{number}", slots="1")
        assert await house.site.claim(f"worker-{number}")
        await evict_now(house.site.broker, MODEL, WorkerId(f"worker-{number}"), 2)
    assert await dead_jobs(house.site.broker, MODEL)
    assert [job["id"] for job in (await house.acme.get("/v1/jobs/dead")).json()["data"]] == ["a1"]
    assert (await house.zeta.get("/v1/jobs/dead")).json()["data"] == []
    again = (await house.admin.post("/v1/jobs/a1/requeue")).json()
    assert again["requeued_from"] == "a1"
    fields = await jobs.read(house.site.broker, MODEL, JobId(again["id"]))
    assert (fields["tenant"], fields["state"], fields["resumable"]) == ("acme", "queued", "1")


async def test_an_ended_job_does_not_go_back(house: House) -> None:
    await house.site.beat("worker-a", slots="1")
    await house.wait_for(["a1"])
    (claimed,) = await house.site.claim("worker-a")
    await house.site.finish("worker-a", claimed)
    answer = await house.admin.post("/v1/jobs/a1/requeue")
    assert answer.status_code == 400 and "finished" in answer.json()["error"]["message"]
