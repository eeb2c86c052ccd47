"""The order of service: tiers, tenants, deadlines; and nobody waits for ever."""

import asyncio
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.common.broker import keys, workers
from millstream.common.broker.jobs import watch
from millstream.common.broker.upkeep import UpkeepRules, keep_up
from millstream.common.chunk import Seq
from millstream.common.job import TIERS, GatewayId, JobId, Tier, WorkerId
from tests.harness.queue_site import MODEL, Site, open_site


async def serve(site: Site, count: int, tokens: int = 256) -> list[str]:
    """One slot takes and finishes jobs, one after the other."""
    served: list[str] = []
    for _ in range(count):
        [job] = await site.claim("w")
        await site.finish("w", job, tokens)
        served.append(job.id)
    return served


async def test_a_thousand_queued_jobs_do_not_delay_another_tenants_first(site: Site) -> None:
    await site.put(*(f"big-{i}" for i in range(1000)), tenant="big")
    await site.beat("w")
    await serve(site, 5)
    await site.put("small-0", tenant="small")
    assert "small-0" in await serve(site, 2)


async def test_tenants_are_served_by_weight(site: Site) -> None:
    await site.put(*(f"heavy-{i}" for i in range(60)), tenant="heavy", weight=2.0)
    await site.put(*(f"light-{i}" for i in range(60)), tenant="light", weight=1.0)
    await site.beat("w")
    shares = Counter(id.partition("-")[0] for id in await serve(site, 60))
    assert abs(shares["heavy"] - 40) <= 1


async def test_fairness_counts_tokens_not_jobs(site: Site) -> None:
    await site.put(*(f"long-{i}" for i in range(60)), tenant="long")
    await site.put(*(f"short-{i}" for i in range(60)), tenant="short")
    await site.beat("w")
    made: Counter[str] = Counter()
    for _ in range(60):
        [job] = await site.claim("w")
        tenant = job.id.partition("-")[0]
        tokens = 900 if tenant == "long" else 100
        await site.finish("w", job, tokens)
        made[tenant] += tokens
    assert abs(made["long"] - made["short"]) <= 1000


async def test_one_long_job_at_a_time_gets_no_more_than_many_short_ones(site: Site) -> None:
    await site.put(*(f"short-{i}" for i in range(300)), tenant="short")
    await site.put("long-0", tenant="long")
    await site.beat("w", slots="2")
    running, made = await site.claim("w", 2), Counter[str]()
    for number in range(1, 200):
        job = running.pop(0)
        tenant = job.id.partition("-")[0]
        tokens = 1000 if tenant == "long" else 100
        await site.finish("w", job, tokens)
        made[tenant] += tokens
        if tenant == "long":  # its client asks again when it has its answer: until then it does not wait
            await site.put(f"long-{number}", tenant="long")
        running += await site.claim("w")
    assert abs(made["long"] - made["short"]) <= 2000


async def test_who_was_served_while_alone_lets_the_others_catch_up(site: Site) -> None:
    await site.beat("w")
    await site.put("first", tenant="first")
    [job] = await site.claim("w")
    await site.put("alone-0", tenant="alone")
    await site.finish("w", job)
    [job] = await site.claim("w")
    await site.put(*(f"late-{i}" for i in range(9)), tenant="late")
    await site.put("alone-1", tenant="alone")
    await site.finish("w", job, 5000)
    assert (await serve(site, 7, 1000)).index("alone-1") == 5


async def test_inside_a_tenant_the_earliest_deadline_goes_first_then_the_oldest(site: Site) -> None:
    await site.put("patient", timeout_ms=60_000)
    await site.put("urgent", timeout_ms=5_000)
    await site.put("also-patient", timeout_ms=60_000)
    await site.put("n-0", "n-1", "n-2", timeout_ms=30_000)
    await site.beat("w")
    assert await serve(site, 6) == ["urgent", "n-0", "n-1", "n-2", "patient", "also-patient"]


async def test_higher_tiers_go_first_and_every_tier_gets_its_share(site: Site) -> None:
    for tier in reversed(TIERS):
        await site.put(*(f"{tier}-{i}" for i in range(100)), tier=tier)
    await site.beat("w")
    served = await serve(site, 64)
    assert served[0] == "priority-0"
    shares = Counter(id.partition("-")[0] for id in served)
    assert shares == {"priority": 48, "default": 8, "flex": 4, "batch": 4}


async def test_an_interactive_job_takes_the_slot_of_a_batch_job_which_then_goes_on(site: Site) -> None:
    await site.beat("w")
    await site.put("batch", tier="batch")
    [batch] = await site.claim("w")
    await workers.step(site.broker, MODEL, WorkerId("w"), [workers.JobStep(batch.id, batch.lease, Seq(1), [b"{}"])])

    assert (await site.put("chat")).outcome == "queued"
    [(answer, _)] = await workers.step(
        site.broker, MODEL, WorkerId("w"), [workers.JobStep(batch.id, batch.lease, Seq(2), [b"{}"])]
    )
    assert answer == "preempt"
    assert await workers.preempt(site.broker, MODEL, WorkerId("w"), [(batch.id, batch.lease)]) == ["queued"]
    assert [job.id for job in await site.claim("w")] == ["chat"]
    await site.beat("v")
    [again] = await site.claim("v")
    assert (again.id, again.seq, again.attempt) == ("batch", 2, 0)
    assert not await site.broker.redis.exists(keys.resume_lower(MODEL, "batch"), keys.waiting(MODEL))


async def test_one_waiting_job_asks_for_one_slot(site: Site) -> None:
    await site.beat("w", slots="3")
    await site.put("b0", "b1", "b2", tier="batch")
    await site.claim("w", 3)
    await site.put("chat")
    asked = [id for id in ("b0", "b1", "b2") if "preempt" in await site.job(id)]
    assert len(asked) == 1


async def test_every_batch_job_gives_way_if_so_many_chats_come_at_once(site: Site) -> None:
    await site.beat("w", slots="64")
    await site.put(*(f"b{i}" for i in range(64)), tier="batch")
    batch = await site.claim("w", 64)
    for i in range(64):
        await site.put(f"c{i}")
    asked = [(job.id, job.lease) for job in batch if "preempt" in await site.job(job.id)]
    assert len(asked) == 64
    await workers.preempt(site.broker, MODEL, WorkerId("w"), asked)
    chats = [job.id for job in await site.claim("w", 64) if job.id.startswith("c")]
    assert len(chats) == 63  # one job of the batch goes on: its tier's share


async def test_a_job_on_its_tiers_share_is_not_preempted(site: Site) -> None:
    await site.put(*(f"c{i}" for i in range(40)))
    await site.put("b", tier="batch")
    await site.beat("w")
    while (job := (await site.claim("w"))[0]).id != "b":
        await site.finish("w", job)
    await site.put("late")
    assert "preempt" not in await site.job("b")


async def test_reserved_slots_are_kept_free_of_lower_tiers(site: Site) -> None:
    await site.broker.redis.hset(keys.policy(MODEL), "reserve", "1")  # type: ignore[misc]
    await site.beat("w", slots="3")
    routed = [(await site.put(f"b{i}", tier="batch")).outcome for i in range(4)]
    assert routed == ["routed", "routed", "queued", "queued"]
    assert len(await site.claim("w", 3)) == 2
    assert (await site.put("chat")).outcome == "routed"


async def test_a_position_counts_what_is_served_before(site: Site) -> None:
    await site.put(*(f"big-{i}" for i in range(50)), tenant="big")
    await site.put(*(f"batch-{i}" for i in range(50)), tier="batch")
    assert (await site.put("small-0", tenant="small")).position == 2
    assert (await site.put("first", tier="priority")).position == 1
    asked = [(JobId(id), Seq(0)) for id in ("small-0", "batch-0", "batch-1", "none")]
    told = await watch(site.broker, MODEL, GatewayId("g"), 10_000, asked)
    assert [(told[id].state, told[id].ahead) for id, _ in asked] == [
        ("queued", 2),
        ("queued", 52),
        ("queued", 53),
        ("missing", -1),
    ]


async def test_thousands_with_the_same_deadline_hear_of_it_in_one_round(site: Site) -> None:
    await site.put(*(f"j{i}" for i in range(200)), timeout_ms=1)
    await asyncio.sleep(0.01)  # the deadline passes
    assert (await keep_up(site.broker, MODEL, UpkeepRules(3))).expired == 200
    assert not await site.broker.redis.exists(keys.waiting(MODEL), keys.deadlines(MODEL))


waiting = st.lists(st.tuples(st.sampled_from(["default", "flex", "batch"]), st.sampled_from("abc")), max_size=6)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(waiting)
def test_nothing_starves_however_much_comes_above_it(redis_url: str, below: list[tuple[Tier, str]]) -> None:
    asyncio.run(_press(redis_url, below))


async def _press(url: str, below: list[tuple[Tier, str]]) -> None:
    """One slot, and for each job it takes a new one of the highest tier."""
    async with open_site(url) as site:
        await site.broker.redis.flushall()
        await site.beat("w")
        await site.put("begun")
        for number, (tier, tenant) in enumerate(below):
            await site.put(f"low-{number}", tier=tier, tenant=tenant)
        served = set[str]()
        for turn in range(16 * len(below) + 1):
            await site.put(f"top-{turn}", tier="priority")
            served |= set(await serve(site, 1))
        assert {f"low-{number}" for number in range(len(below))} <= served
        assert (await site.load())["w"] == 0
