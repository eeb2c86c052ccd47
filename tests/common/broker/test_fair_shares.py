"""Tenants above their share of the slots give some back to those that wait, and nobody loses or repeats anything."""

from collections import Counter

from millstream.common.broker import workers
from millstream.common.broker.upkeep import SHARE, ShareArgs, UpkeepRules, keep_up
from millstream.common.chunk import Seq
from millstream.common.job import Tier, WorkerId
from tests.harness.queue_site import MODEL, Site
from tests.harness.support import wait_until

W = WorkerId("w")
CHUNK = b"{}"


async def share(site: Site, patience_ms: int = 1) -> int:
    return int(await site.broker.run(SHARE, MODEL, ShareArgs(patience_ms=patience_ms, pause_ms=0)))


async def shared(site: Site, patience_ms: int = 1) -> int:
    """Returns how many were asked, once somebody's patience is over."""
    return await wait_until(lambda: share(site, patience_ms), what="a job is asked to give way")


async def hold(site: Site, room: int = 1) -> list[workers.Claimed]:
    """Claimed jobs that have made something."""
    claimed = await site.claim("w", room)
    steps = [workers.JobStep(job.id, job.lease, Seq(job.seq + 1), [CHUNK, CHUNK]) for job in claimed]
    if steps:
        await workers.step(site.broker, MODEL, W, steps)
    return claimed


async def asked(site: Site, held: list[workers.Claimed]) -> list[workers.Claimed]:
    return [job for job in held if "preempt" in await site.job(job.id)]


async def give_way(site: Site, held: list[workers.Claimed]) -> list[workers.Claimed]:
    """The worker gives back what it was asked for, and says so twice; what it holds afterwards."""
    going = await asked(site, held)
    pairs = [(job.id, job.lease) for job in going]
    assert await workers.preempt(site.broker, MODEL, W, pairs) == ["queued"] * len(pairs)
    assert await workers.preempt(site.broker, MODEL, W, pairs) == ["fenced"] * len(pairs)
    return [job for job in held if job not in going] + await hold(site, len(going))


def held_by(held: list[workers.Claimed]) -> Counter[str]:
    return Counter(job.id.partition("-")[0] for job in held)


async def occupied(site: Site, slots: int, tier: Tier = "default", weight: float = 1.0) -> list[workers.Claimed]:
    """A worker whose slots are all one tenant's, which has more to do."""
    await site.beat("w", slots=str(slots))
    await site.put(*(f"hog-{i}" for i in range(slots + 3)), tenant="hog", tier=tier, weight=weight)
    return await hold(site, slots)


async def test_a_tenant_above_its_share_gives_a_slot_to_one_that_waits_and_goes_on_later(site: Site) -> None:
    held = await occupied(site, 2)
    await site.put("good-0", tenant="good")
    assert await shared(site) == 1
    assert await share(site, 0) == 0, "one waits, so one is asked, and once"
    [going] = await asked(site, held)
    [(answer, _)] = await workers.step(site.broker, MODEL, W, [workers.JobStep(going.id, going.lease, Seq(3), [CHUNK])])
    assert answer == "preempt"

    held = await give_way(site, held)
    assert held_by(held) == {"hog": 1, "good": 1}
    [good] = [job for job in held if job.id == "good-0"]
    await site.finish("w", good)
    [again] = await site.claim("w")
    assert (again.id, again.seq, again.attempt) == (going.id, 3, 0), (
        "before the others of its tenant, from its next token"
    )


async def test_the_slot_goes_to_who_it_was_asked_for_though_that_tenant_was_served_more(site: Site) -> None:
    await site.put("good-0", tenant="good")
    await site.put("hog-0", "hog-1", tenant="hog")
    await site.beat("w")
    [first] = await hold(site)
    await site.finish("w", first, 100_000)
    held = await hold(site)
    await site.put("good-1", tenant="good")
    await shared(site)
    assert held_by(held) == {"hog": 1}
    assert held_by(await give_way(site, held)) == {"good": 1}


async def test_two_equal_tenants_do_not_take_slots_from_each_other_for_ever(site: Site) -> None:
    held = await occupied(site, 3)
    await site.put(*(f"good-{i}" for i in range(3)), tenant="good")
    assert await shared(site) == 1
    held = await give_way(site, held)
    for _ in range(20):
        assert await share(site, 0) == 0
    assert held_by(held) == {"hog": 2, "good": 1}


async def test_shares_follow_the_weights(site: Site) -> None:
    held = await occupied(site, 8)
    await site.put(*(f"good-{i}" for i in range(8)), tenant="good", weight=3.0)
    while await share(site, 0) or await asked(site, held):
        held = await give_way(site, held)
    assert held_by(held) == {"hog": 2, "good": 6}


async def test_more_tenants_than_slots_take_turns_which_grow_longer(site: Site) -> None:
    held, patience, runs = await occupied(site, 1), 10, list[int]()
    await site.put("good-0", tenant="good")
    for _ in range(8):
        await shared(site, patience)
        job = await site.job(held[0].id)
        runs.append(int(job["preempt"]) - int(job["claimed"]))
        held = await give_way(site, held)
    assert all(run >= patience * 2 ** (turn // 2) for turn, run in enumerate(runs)), runs
    assert held_by(held) == {"hog": 1}


async def test_what_has_made_nothing_yet_and_what_runs_on_a_leaving_worker_is_let_alone(site: Site) -> None:
    await site.beat("w", slots="1")
    await site.put("hog-0", tenant="hog")
    [job] = await site.claim("w")
    await site.put("good-0", tenant="good")
    assert not await share(site, 0)
    made = workers.JobStep(job.id, job.lease, Seq(1), [CHUNK, CHUNK])
    await workers.step(site.broker, MODEL, W, [made])
    await site.broker.redis.hset(f"ms:{{{MODEL}}}:worker:w", "state", "draining")  # type: ignore[misc]
    assert not await share(site, 0)
    await site.broker.redis.hset(f"ms:{{{MODEL}}}:worker:w", "state", "ready")  # type: ignore[misc]
    assert await share(site, 0) == 1


async def test_a_slot_that_nobody_wants_any_more_goes_back_to_its_tenant(site: Site) -> None:
    held = await occupied(site, 1)
    await site.put("good-0", tenant="good")
    await shared(site)
    await site.broker.redis.hset(f"ms:{{{MODEL}}}:job:good-0", "deadline", "1")  # type: ignore[misc]
    await site.broker.redis.zadd(f"ms:{{{MODEL}}}:deadlines", {"good-0": 1})
    await keep_up(site.broker, MODEL, UpkeepRules(3))
    [again] = await give_way(site, held)
    assert (again.id, again.seq) == (held[0].id, 2)


async def test_a_tier_below_waits_longer_and_then_gets_one_slot_to_keep(site: Site) -> None:
    held, patience = await occupied(site, 2), 5
    await site.put("low-0", "low-1", tenant="low", tier="batch")
    await shared(site, patience)
    [going] = await asked(site, held)
    job = await site.job(going.id)
    assert int(job["preempt"]) - int(job["claimed"]) >= 15 * patience
    held = await give_way(site, held)
    await site.put("chat-0", tenant="chat")
    assert await asked(site, held) == [], "an interactive job does not take it back"
    assert held_by(held) == {"hog": 1, "low": 1}


async def test_a_tenant_of_priority_gives_way_to_a_waiting_one_of_default(site: Site) -> None:
    held = await occupied(site, 4, "priority")
    await site.put("good-0", "good-1", tenant="good")
    await shared(site)
    assert held_by(await give_way(site, held)) == {"hog": 3, "good": 1}


async def test_a_slot_that_is_reserved_is_not_given_to_a_lower_tier(site: Site) -> None:
    await site.broker.redis.hset(f"ms:{{{MODEL}}}:policy", "reserve", "1")  # type: ignore[misc]
    await occupied(site, 2)
    await site.put("low-0", tenant="low", tier="batch")
    assert await share(site, 0) == 0


async def test_a_job_that_lost_its_worker_gets_a_slot_back(site: Site) -> None:
    held = await occupied(site, 1)
    await site.beat("v")
    await site.put("good-0", tenant="good")
    [lost] = await site.claim("v")
    await site.put("hog-9", tenant="hog")
    await workers.evict_now(site.broker, MODEL, WorkerId("v"), 3)
    assert await site.broker.redis.exists(f"ms:{{{MODEL}}}:resume")
    await shared(site)
    assert [job.id for job in await give_way(site, held)] == [lost.id]


async def test_without_patience_set_nobody_is_asked(site: Site) -> None:
    held = await occupied(site, 1)
    await site.put("good-0", tenant="good")
    await keep_up(site.broker, MODEL, UpkeepRules(3, fair_after_ms=0))
    assert await asked(site, held) == []
    await wait_until(lambda: _asked_by_upkeep(site, held))


async def _asked_by_upkeep(site: Site, held: list[workers.Claimed]) -> bool:
    await keep_up(site.broker, MODEL, UpkeepRules(3, fair_after_ms=1))
    return bool(await asked(site, held))
