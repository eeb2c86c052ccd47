"""A job's life through the scripts, as gateway and worker see it."""

import json
import time

import pytest

from millstream.common.broker import chunks, jobs, keys, workers
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.upkeep import UpkeepRules, keep_up
from millstream.common.chunk import Seq
from millstream.common.errors import IdempotencyConflict
from millstream.common.job import ChatPrompt, GatewayId, JobId, JobRequest, Lease, ModelName, WorkerId

MODEL = ModelName("tiny")
GATEWAY = GatewayId("gw-1")
REQUEST = JobRequest(input=ChatPrompt(messages=[{"role": "user", "content": "hi"}]))
ABOUT = {"slots": "2", "speed": "10", "state": "ready"}
LEASE_MS = 5000


def envelope(**changes: object) -> jobs.Envelope:
    values = {"gateway": GATEWAY, "tenant": "acme", "tier": "default", "timeout_ms": 60_000, "retention_ms": 60_000}
    return jobs.Envelope(**{**values, **changes})  # type: ignore[arg-type]


async def submit(broker: Broker, *ids: str, **changes: object) -> jobs.Submitted:
    return await jobs.submit(broker, MODEL, envelope(**changes), [jobs.NewJob(JobId(id), REQUEST) for id in ids])


async def register(broker: Broker, worker: str, **changes: str) -> WorkerId:
    await workers.beat(broker, MODEL, WorkerId(worker), LEASE_MS, {**ABOUT, **changes}, [])
    return WorkerId(worker)


async def claim(broker: Broker, worker: WorkerId, room: int = 8) -> list[workers.Claimed]:
    return (await workers.claim(broker, MODEL, worker, room)).jobs


def end(state: str = "finished") -> workers.End:
    return workers.End(state, "stop", b"{}", 3)  # type: ignore[arg-type]


async def step(broker: Broker, worker: WorkerId, job: workers.Claimed, first: int, *texts: str, last: bool = False):
    body = [json.dumps({"text": text}).encode() for text in texts]
    made = workers.JobStep(job.id, job.lease, Seq(first), body, end() if last else None)
    return (await workers.step(broker, MODEL, worker, [made]))[0]


async def load_of(broker: Broker, worker: str) -> float | None:
    return await broker.redis.zscore(keys.load(MODEL), worker)


async def test_a_job_goes_to_the_worker_with_a_free_slot_and_ends_there(broker: Broker) -> None:
    worker = await register(broker, "w1")
    assert (await submit(broker, "j1")).outcome == "routed"
    assert await load_of(broker, "w1") == 1

    [job] = await claim(broker, worker)
    assert (job.id, job.lease, job.seq, job.request) == ("j1", "1:w1", 0, REQUEST)
    assert await step(broker, worker, job, 1, "a", "b") == ("ok", 2)
    assert await step(broker, worker, job, 3, "c", last=True) == ("ok", 3)

    assert await load_of(broker, "w1") == 0
    log = await chunks.read_log(broker, MODEL, job.id, Seq(0))
    assert [(seq, json.loads(body)["text"]) for seq, body in log] == [(1, "a"), (2, "b"), (3, "c")]
    assert (await jobs.read(broker, MODEL, job.id))["state"] == "finished"


async def test_without_a_free_slot_jobs_wait_and_are_claimed_when_one_frees(broker: Broker) -> None:
    worker = await register(broker, "w1", slots="1")
    assert (await submit(broker, "j1")).outcome == "routed"
    assert (await submit(broker, "j2")).position == 1
    assert (await submit(broker, "j3")).position == 2
    assert await broker.redis.xlen(keys.backlog(MODEL, "default", "acme")) == 2

    [first] = await claim(broker, worker, 1)
    await step(broker, worker, first, 1, "x", last=True)
    assert [job.id for job in await claim(broker, worker, 2)] == ["j2", "j3"]
    assert await broker.redis.exists(keys.waiting(MODEL), keys.backlog(MODEL, "default", "acme")) == 0


async def test_submitting_again_changes_nothing(broker: Broker) -> None:
    await register(broker, "w1")
    await submit(broker, "j1")
    assert (await submit(broker, "j1")).outcome == "duplicate"
    assert await load_of(broker, "w1") == 1


async def test_the_same_idempotency_key_finds_the_earlier_jobs_and_another_body_conflicts(broker: Broker) -> None:
    await submit(broker, "j1", "j2", idempotency_digest="k", fingerprint="f")
    again = await submit(broker, "j3", idempotency_digest="k", fingerprint="f")
    assert (again.outcome, again.jobs) == ("duplicate", ["j1", "j2"])
    with pytest.raises(IdempotencyConflict):
        await submit(broker, "j4", idempotency_digest="k", fingerprint="other")
    other_tenant = await submit(broker, "j5", idempotency_digest="k", fingerprint="f", tenant="other")
    assert other_tenant.outcome == "queued"


async def test_a_full_backlog_refuses_all_jobs_of_a_request_and_says_what_waits(broker: Broker) -> None:
    bounds = jobs.Bounds(jobs=2)
    await submit(broker, "j1", bounds=bounds)
    refused = await submit(broker, "j2", "j3", bounds=bounds)
    assert (refused.outcome, refused.reason, refused.waiting_jobs) == ("refused", "jobs", 1)
    assert not await jobs.read(broker, MODEL, JobId("j2"))


async def test_a_resent_step_is_a_no_op_and_a_hole_is_refused(broker: Broker) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    [job] = await claim(broker, worker)
    await step(broker, worker, job, 1, "a")
    assert await step(broker, worker, job, 1, "a", "b") == ("ok", 2)
    assert await step(broker, worker, job, 4, "d") == ("lagging", 2)
    assert await step(broker, worker, job, 3, "c", last=True) == ("ok", 3)
    assert await step(broker, worker, job, 3, "c", last=True) == ("ok", 3)
    assert len(await chunks.read_log(broker, MODEL, job.id, Seq(0))) == 3
    assert await load_of(broker, "w1") == 0


async def test_an_evicted_workers_writes_are_fenced_and_another_goes_on(broker: Broker) -> None:
    zombie = await register(broker, "w1")
    await submit(broker, "j1")
    [job] = await claim(broker, zombie)
    await step(broker, zombie, job, 1, "a")
    await workers.evict_now(broker, MODEL, zombie, max_attempts=3)

    heir = await register(broker, "w2")
    [again] = await claim(broker, heir)
    assert (again.lease, again.seq, again.attempt) == ("2:w2", 1, 1)
    assert await step(broker, zombie, job, 2, "zombie") == ("fenced", 1)
    assert await step(broker, heir, again, 2, "b", last=True) == ("ok", 2)

    pulse = await workers.beat(broker, MODEL, zombie, LEASE_MS, ABOUT, [job.id])
    assert pulse.lost == [job.id]


async def test_a_job_that_keeps_killing_workers_is_buried_with_its_reason(broker: Broker) -> None:
    await submit(broker, "j1")
    for attempt in range(3):
        worker = await register(broker, f"w{attempt}")
        [_] = await claim(broker, worker)
        await workers.evict_now(broker, MODEL, worker, max_attempts=3)
    job = await jobs.read(broker, MODEL, JobId("j1"))
    assert (job["state"], job["attempt"]) == ("failed", "3")
    [(_, grave)] = await broker.redis.xrange(keys.dead(MODEL))
    assert grave["job"] == "j1" and "died 3 times" in grave["reason"]


async def test_a_handed_back_job_counts_no_attempt_and_takes_the_inbox_along(broker: Broker) -> None:
    leaving = await register(broker, "w1")
    await submit(broker, "j1")
    [job] = await claim(broker, leaving)
    await submit(broker, "j2")
    await workers.beat(broker, MODEL, leaving, LEASE_MS, {**ABOUT, "state": "draining"}, [job.id])
    heir = await register(broker, "w2")
    assert await workers.handoff(broker, MODEL, leaving, [(job.id, job.lease)]) == ["queued"]
    taken = await claim(broker, heir)
    assert {(each.id, each.attempt) for each in taken} == {("j1", 0), ("j2", 0)}
    assert await load_of(broker, "w1") == 0


async def test_cancel_settles_a_waiting_job_and_flags_a_running_one(broker: Broker) -> None:
    worker = await register(broker, "w1", slots="1")
    await submit(broker, "j1")
    await submit(broker, "j2")
    [job] = await claim(broker, worker, 1)
    assert await jobs.cancel(broker, MODEL, "", [JobId("j2"), job.id, JobId("none")]) == [
        "cancelled",
        "cancelling",
        "missing",
    ]
    assert (await step(broker, worker, job, 1, "a"))[0] == "cancel"
    pulse = await workers.beat(broker, MODEL, worker, LEASE_MS, ABOUT, [job.id])
    assert pulse.cancel == [job.id]
    assert await broker.redis.exists(keys.waiting(MODEL), keys.backlog(MODEL, "default", "acme")) == 0


async def test_a_claim_whose_reply_was_lost_is_adopted_at_the_next_beat(broker: Broker) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    await claim(broker, worker)
    pulse = await workers.beat(broker, MODEL, worker, LEASE_MS, ABOUT, [])
    assert [(job.id, job.lease) for job in pulse.unknown] == [("j1", "2:w1")], "under a lease of its own"


async def test_lost_chunks_are_put_back_and_the_older_owner_is_fenced(broker: Broker) -> None:
    """Redis lost its tail: it never heard of grant 2, whose chunks the client already has."""
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    [job] = await claim(broker, worker)
    await step(broker, worker, job, 1, "a")
    have = jobs.Delivered(Lease("2:w9"), seq=Seq(3), first=2, chunks=[b'{"text":"b"}', b'{"text":"c"}'])
    place = await jobs.attach(broker, MODEL, job.id, GatewayId("gw-2"), "acme", have)
    assert place.seq == 3
    assert await step(broker, worker, job, 2, "zombie") == ("fenced", 3)
    [again] = await claim(broker, worker)
    assert (again.lease, again.seq) == ("3:w1", 3)


async def test_chunks_nobody_holds_any_more_are_said_to_be_lost(broker: Broker) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    [job] = await claim(broker, worker)
    await step(broker, worker, job, 1, "a")
    place = await jobs.attach(broker, MODEL, job.id, GATEWAY, "acme", jobs.Delivered(Lease("1:w1"), seq=Seq(3)))
    assert place == jobs.JobPosition("lost", Seq(1))


async def test_a_vanished_job_is_submitted_again_with_what_was_delivered(broker: Broker) -> None:
    again = jobs.NewJob(JobId("j1"), REQUEST, prefix=[b'{"text":"a"}', b'{"text":"b"}'], grant=4)
    await jobs.submit(broker, MODEL, envelope(), [again])
    worker = await register(broker, "w1")
    [job] = await claim(broker, worker)
    assert (job.lease, job.seq) == ("5:w1", 2)


async def test_a_log_belongs_to_its_tenant(broker: Broker) -> None:
    await submit(broker, "j1")
    assert (await jobs.attach(broker, MODEL, JobId("j1"), GATEWAY, "other", jobs.Delivered())).state == "missing"
    assert await jobs.cancel(broker, MODEL, "other", [JobId("j1")]) == ["missing"]


async def test_the_watchdog_tells_only_of_jobs_with_news(broker: Broker) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    await submit(broker, "j2")
    job, quiet = await claim(broker, worker)
    await step(broker, worker, job, 1, "a")
    news = await jobs.watch(broker, MODEL, GATEWAY, 5000, [(job.id, Seq(0)), (quiet.id, Seq(0)), (JobId("x"), Seq(0))])
    assert news == {"j1": jobs.JobPosition("running", Seq(1), job.lease), "x": jobs.JobPosition("missing", Seq(0))}


async def test_nothing_of_a_settled_job_is_immortal(broker: Broker) -> None:
    worker = await register(broker, "w1", slots="1")
    await submit(broker, "j1", idempotency_digest="k", fingerprint="f")
    await submit(broker, "j2")
    await submit(broker, "j3")
    [job] = await claim(broker, worker, 1)
    await step(broker, worker, job, 1, "a", last=True)
    await jobs.cancel(broker, MODEL, "", [JobId("j2")])
    [job] = await claim(broker, worker, 1)
    await workers.evict_now(broker, MODEL, worker, max_attempts=1)

    allowed = {keys.dead(MODEL), keys.server(MODEL), keys.gateways(MODEL)}
    immortal = [key async for key in broker.redis.scan_iter() if await broker.redis.ttl(key) == -1]
    assert set(immortal) <= allowed


async def silent_for_long(broker: Broker, gateway: GatewayId) -> None:
    await broker.redis.zadd(keys.gateways(MODEL), {gateway: 1})


async def states(broker: Broker, *ids: str) -> list[str]:
    return [(await jobs.read(broker, MODEL, JobId(id)))["state"] for id in ids]


async def test_a_gateway_that_comes_back_from_idleness_is_not_taken_for_dead(broker: Broker) -> None:
    await submit(broker, "j1")
    await silent_for_long(broker, GATEWAY)
    await submit(broker, "j2")
    await keep_up(broker, MODEL, UpkeepRules(3, orphan_grace_ms=0))
    assert await states(broker, "j1", "j2") == ["queued", "queued"]


async def test_a_silent_gateway_that_is_still_connected_is_only_frozen(broker: Broker) -> None:
    """Clients' connections live on, and it goes on when it wakes; but not for ever: its machine may be gone."""
    await submit(broker, "j1")
    for minutes, connected, state in ((1, True, "queued"), (1, False, "cancelled"), (6, True, "cancelled")):
        id = f"j{minutes}{connected}"
        await submit(broker, id)
        ago = time.time() * 1000 - minutes * 60_000
        await broker.redis.zadd(keys.gateways(MODEL), {GATEWAY: ago})
        async with broker.redis.pubsub() as pubsub:
            await pubsub.subscribe(keys.frames(GATEWAY) if connected else "another")  # type: ignore[misc]
            await pubsub.get_message(timeout=5)
            await broker.redis.delete(keys.upkeep(MODEL))
            await keep_up(broker, MODEL, UpkeepRules(3, orphan_grace_ms=0))
        assert await states(broker, id) == [state]


async def test_no_gateway_is_taken_for_dead_while_redis_was(broker: Broker) -> None:
    """It could not say that it lives: first it gets the time to, then the job is an orphan."""
    await submit(broker, "j1")
    await register(broker, "w1")
    await silent_for_long(broker, GATEWAY)
    await broker.redis.hset(keys.server(MODEL), mapping={"wrote": 1})  # type: ignore[misc]
    await keep_up(broker, MODEL, UpkeepRules(3, orphan_grace_ms=0))
    assert await states(broker, "j1") == ["queued"]
    await broker.redis.hset(keys.server(MODEL), mapping={"stalled": 1})  # type: ignore[misc]
    await broker.redis.delete(keys.upkeep(MODEL))
    await keep_up(broker, MODEL, UpkeepRules(3, orphan_grace_ms=0))
    assert await states(broker, "j1") == ["cancelled"]
