"""To which worker a job goes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.common.broker.models.policy import Policy, Rule, read_policy, write_policy
from millstream.common.errors import BadRequest
from millstream.common.job import ChatPrompt, JobInput, TextPrompt, TokensPrompt
from millstream.gateway.requests.affinity import MOST, affinity
from tests.harness.queue_site import MODEL, Site

SPEEDS = {"slow": 10, "mid": 20, "fast": 40}


async def workers(site: Site, slots: int = 1000) -> None:
    for name, speed in SPEEDS.items():
        await site.beat(name, slots=str(slots), speed=str(speed))


async def test_shares_are_the_speeds_while_jobs_pile_up(site: Site) -> None:
    await workers(site)
    for i in range(700):
        await site.put(f"j{i}")
    load = await site.load()
    assert {name: round(load[name] / 100) for name in SPEEDS} == {"slow": 1, "mid": 2, "fast": 4}
    assert all(abs(load[name] - 10 * SPEEDS[name]) <= 3 for name in SPEEDS)


async def test_the_lottery_draws_by_speed(site: Site) -> None:
    await write_policy(site.broker, MODEL, Policy("lottery"))
    await workers(site, slots=5000)
    for i in range(2100):
        await site.put(f"j{i}")
    load = await site.load()
    assert all(abs(load[name] / 30 - SPEEDS[name]) < 6 for name in SPEEDS)  # 4 standard deviations and more


async def test_a_worker_not_measured_yet_counts_as_the_fastest(site: Site) -> None:
    await site.beat("known", slots="100", speed="40")
    await site.beat("new", slots="100", speed="0")
    for i in range(20):
        await site.put(f"j{i}")
    load = await site.load()
    assert load == {"known": 10, "new": 10}


async def serve(site: Site, id: str, *affinity: str) -> str:
    """Submit, let whoever was chosen run and finish it; who it was."""
    before = await site.load()
    await site.put(id, affinity=affinity)
    [worker] = [name for name, load in (await site.load()).items() if load > before[name]]
    [job] = await site.claim(worker)
    await site.finish(worker, job)
    return worker


@pytest.mark.parametrize("rule", ["prefix", "session"])
async def test_a_conversation_stays_with_its_worker_until_that_has_too_much(site: Site, rule: Rule) -> None:
    await write_policy(site.broker, MODEL, Policy(rule, margin=2))
    await workers(site)
    first = await serve(site, "turn-1", "s:ann", "p:1")
    assert first == "fast"
    await site.broker.redis.zadd("ms:{simulated}:load", {"fast": 2})
    assert await serve(site, "turn-2", "s:ann", "p:2", "p:1") == "fast"
    await site.broker.redis.zadd("ms:{simulated}:load", {"fast": 3})
    moved = await serve(site, "turn-3", "s:ann", "p:3", "p:2", "p:1")
    assert moved == "mid"
    await site.broker.redis.zadd("ms:{simulated}:load", {"fast": 0})
    assert await serve(site, "turn-4", "s:ann", "p:4", "p:3", "p:2", "p:1") == "mid"


async def test_the_longest_known_beginning_decides(site: Site) -> None:
    await write_policy(site.broker, MODEL, Policy("prefix"))
    await site.beat("a", slots="9")
    await site.beat("b", slots="9")
    await site.broker.redis.set("ms:{simulated}:warm:p:system", "a")
    await site.broker.redis.set("ms:{simulated}:warm:p:long", "b")
    assert await serve(site, "j1", "p:long", "p:system") == "b"
    assert await serve(site, "j2", "p:unknown", "p:system") == "b"  # it served the system prompt last


async def test_sessions_do_not_follow_prompts(site: Site) -> None:
    await write_policy(site.broker, MODEL, Policy("session"))
    await site.beat("a", slots="9", speed="1")
    await site.beat("b", slots="9", speed="9")
    await site.broker.redis.set("ms:{simulated}:warm:p:system", "a")
    assert await serve(site, "j1", "p:system") == "b"


async def test_a_policy_is_checked_and_read_back(site: Site) -> None:
    assert await read_policy(site.broker, MODEL) == Policy()
    with pytest.raises(BadRequest):
        await write_policy(site.broker, MODEL, Policy("random"))  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        await write_policy(site.broker, MODEL, Policy(margin=-1))


async def test_sick_and_dead_workers_get_nothing(site: Site) -> None:
    await site.beat("sick", slots="9", state="sick")
    await site.beat("well", slots="9")
    for i in range(5):
        await site.put(f"j{i}")
    assert await site.load() == {"sick": 0, "well": 5}


turns = st.lists(st.text(max_size=20), min_size=1, max_size=12)


def chat(texts: list[str]) -> ChatPrompt:
    return ChatPrompt([{"role": "user", "content": text} for text in texts])


@given(turns, turns)
def test_every_turn_knows_the_one_before_it(history: list[str], more: list[str]) -> None:
    before, after = affinity("t", "", chat(history)), affinity("t", "", chat(history + more[:2]))
    assert before[0] in after
    assert len(after) <= MOST and len(set(after)) == len(after)
    assert Counter(before) & Counter(affinity("t", "", chat(["other", *history]))) == Counter()


@given(st.text(min_size=1, max_size=3000), st.text(max_size=600))
def test_texts_share_their_whole_pieces(text: str, more: str) -> None:
    whole = len(text) // 512
    shared = set(affinity("t", "", TextPrompt(text))) & set(affinity("t", "", TextPrompt(text + more)))
    assert bool(shared) or not whole


@pytest.mark.parametrize("prompt", [None, TextPrompt(""), TokensPrompt([])])
def test_nothing_has_no_beginning(prompt: JobInput | None) -> None:
    assert affinity("t", "", prompt) == ()
    [session] = affinity("t", "x", prompt)
    assert session.startswith("s:") and session != affinity("other", "x", prompt)[0]


async def test_the_jobs_of_one_request_are_spread_like_so_many_requests(site: Site) -> None:
    await site.beat("fast", slots="6", speed="40")
    await site.beat("slow", slots="2", speed="20")
    assert (await site.put(*(f"j{i}" for i in range(6)))).outcome == "routed"
    assert await site.load() == {"fast": 4, "slow": 2}
    more = await site.put(*(f"k{i}" for i in range(4)))
    assert (more.outcome, more.position) == ("queued", 1)
    assert await site.load() == {"fast": 6, "slow": 2}
