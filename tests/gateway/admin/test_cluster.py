"""`/v1/cluster` shows everything to administrators, and to a tenant nothing of the others."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx

from millstream.common.broker import keys
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.inspection import LiveJob
from millstream.common.broker.models.overview import overview
from millstream.common.job import JobId
from millstream.gateway.queue.client import Waiting
from millstream.gateway.services.cluster_feed import ClusterFeed
from tests.gateway.admin.conftest import House, chat, house_of
from tests.harness.queue_site import MODEL, Site, open_site
from tests.harness.support import wait_until


async def test_an_administrator_sees_workers_queues_and_the_server(house: House) -> None:
    await house.site.beat("worker-a", slots="2", engine="simulated", host="far", pid="7")
    await house.wait_for(["a1", "a2", "a3"])
    await house.wait_for(["z1"], tenant="zeta", tier="batch")
    await house.site.claim("worker-a", 2)
    told = (await house.admin.get("/v1/cluster")).json()
    (worker,) = told["workers"]
    assert (worker["id"], worker["load"], worker["slots"], worker["host"]) == ("worker-a", 2, 2, "far")
    assert worker["lease_left"] > 0
    assert {(q["tenant"], q["tier"], q["waiting"]) for q in told["queues"]} == {
        ("acme", "default", 1),
        ("zeta", "batch", 1),
    }
    assert told["redis"]["ok"] and told["redis"]["version"] and told["redis"]["role"] == "master"
    (model,) = told["models"]
    assert (model["waiting"], model["running"], model["live_jobs"]) == (2, 2, 4)
    waiting = {job["id"]: (job["position"], job["why"]) for job in told["jobs"] if job["state"] == "queued"}
    assert waiting == {"a3": (1, "all_slots_busy"), "z1": (2, "all_slots_busy")}
    assert {job["position"] for job in told["jobs"] if job["state"] == "running"} == {None}


async def test_a_tenant_sees_its_own_and_no_name_of_another(house: House) -> None:
    await house.site.beat("worker-a", slots="1", host="secret-host")
    await house.wait_for(["a1", "a2"])
    await house.wait_for(["z1", "z2"], tenant="zeta")
    told = (await house.acme.get("/v1/cluster")).json()
    assert {job["id"] for job in told["jobs"]} == {"a1", "a2"}
    assert {queue["tenant"] for queue in told["queues"]} == {"acme"}
    assert told["redis"] == {**told["redis"], "ok": True, "version": "", "memory_bytes": None}
    assert told["models"][0]["live_jobs"] is None
    text = json.dumps(told)
    assert not [word for word in ("zeta", "z1", "z2", "secret-host") if word in text]


async def test_what_a_job_waits_for(house: House) -> None:
    await house.wait_for([])
    await house.site.beat("worker-a", state="sick")
    await house.wait_for(["a1"])
    assert (await house.acme.get("/v1/cluster")).json()["jobs"][0]["why"] == "workers_not_ready"


async def test_a_model_without_worker_says_so(house: House) -> None:
    await house.site.beat("worker-a")
    await house.site.broker.redis.zrem(keys.leases(MODEL), "worker-a")
    await house.site.broker.redis.zrem(keys.load(MODEL), "worker-a")
    await house.wait_for(["a1"])
    told = (await house.acme.get("/v1/cluster")).json()
    assert told["workers"] == []
    assert told["jobs"][0]["why"] == "no_worker"


async def events(client: httpx.AsyncClient, most: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with client.stream("GET", "/v1/cluster/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
            if len(found) == most:
                break
    return found


async def test_the_events_tell_each_viewer_its_own(house: House) -> None:
    await house.site.beat("worker-a")
    await house.wait_for(["a1"])
    await house.wait_for(["z1"], tenant="zeta")
    of_admin, of_acme = await asyncio.gather(events(house.admin, 2), events(house.acme, 2))
    assert {job["id"] for job in of_admin[1]["jobs"]} == {"a1", "z1"}
    assert [[job["id"] for job in told["jobs"]] for told in of_acme] == [["a1"], ["a1"]]


async def test_the_stream_of_a_revoked_key_ends(house: House) -> None:
    await house.site.beat("worker-a")
    made = (await house.admin.post("/v1/keys", json={"tenant": "admin"})).json()
    own = {"authorization": f"Bearer {made['key']}"}
    async with house.acme.stream("GET", "/v1/cluster/events", headers=own) as response:
        lines = response.aiter_lines()
        assert (await told_next(lines))["viewer"]["admin"]
        await house.admin.delete(f"/v1/keys/{made['id']}")
        async for _ in lines:  # until the gateway ends it
            pass
    assert (await house.acme.get("/v1/cluster", headers=own)).status_code == 401


async def test_one_look_serves_all_who_watch(site: Site) -> None:
    await site.beat("worker-a")
    feed = ClusterFeed(lambda: overview(site.broker), nowhere)
    async with AsyncExitStack() as scope:
        watching = [feed.watch() for _ in range(20)]
        for each in watching:
            scope.push_async_callback(each.aclose)
        await asyncio.gather(*(anext(each) for each in watching))
        assert feed.looks == 1


async def test_the_stream_goes_on_while_redis_is_away(own_valkey: EmbeddedValkey) -> None:
    async with open_site(own_valkey.url) as site, house_of(site) as house:
        await site.beat("worker-a")
        async with house.acme.stream("GET", "/v1/cluster/events") as response:
            lines = response.aiter_lines()
            first = await told_next(lines)
            await own_valkey.stop()
            later = await wait_until(lambda: told_next(lines, ok=False), within=30)
        assert first["redis"]["ok"] and later["models"] == first["models"]
        assert own_valkey.url.rpartition(":")[2].partition("/")[0] not in json.dumps(later["redis"])


async def told_next(lines: Any, *, ok: bool = True) -> dict[str, Any]:
    async for line in lines:
        if line.startswith("data: ") and json.loads(line[6:])["redis"]["ok"] is ok:
            return dict(json.loads(line[6:]))
    raise AssertionError("the stream ended")


async def test_rates_are_what_was_made_between_two_heartbeats(site: Site) -> None:
    await site.worker("worker-a", slots=1, rate=50)
    await site.put("a1")
    feed = ClusterFeed(lambda: overview(site.broker), nowhere)
    rates = [sight.rates async for sight in limited(feed, 4)]
    assert all(rate >= 0 for each in rates for rate in each.values())
    assert (MODEL, "worker-a") in rates[-1]


async def nowhere(jobs: list[LiveJob]) -> dict[JobId, Waiting]:
    """Tells of no job where it stands."""
    return {}


async def limited(feed: ClusterFeed, most: int) -> Any:
    left = most
    async for sight in feed.watch():
        yield sight
        left -= 1
        if not left:
            return


async def test_only_workers_of_this_machine_can_be_signalled_and_only_where_allowed(house: House) -> None:
    await house.site.beat("worker-a", host="elsewhere", pid="1")
    assert (await house.acme.post("/v1/workers/worker-a/kill")).status_code == 403
    refused = await house.admin.post("/v1/workers/worker-a/kill")
    assert refused.status_code == 403 and "local_workers" in refused.json()["error"]["message"]
    async with house_of(house.site, local_workers=True) as open_house:
        foreign = await open_house.admin.post("/v1/workers/worker-a/kill")
        assert foreign.status_code == 400 and foreign.json()["error"]["param"] == "worker"
        assert (await open_house.admin.post("/v1/workers/none/drain")).status_code == 404
        assert (await open_house.admin.post("/v1/workers/worker-a/stop")).status_code == 400


async def test_everything_is_described(house: House) -> None:
    document = (await house.admin.get("/openapi.json")).json()
    schema = document["paths"]["/v1/cluster"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ClusterState"}
    assert {"JobDetail", "ApiKeyInfo", "ArenaLeaderboard", "DeadJobList"} <= set(document["components"]["schemas"])
    assert chat()["model"] == MODEL
