"""Any interleaving of a job's life, by workers and gateways that may be stale, on a real Valkey: the invariants hold.

`forget` is a Redis that lost the tail of its append-only file: all keys are as they were a while ago, while workers and
clients know more.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from millstream.common.broker import jobs, keys, workers
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.upkeep import SHARE, ShareArgs, UpkeepRules, keep_up
from millstream.common.job import TIERS, GatewayId, JobId, WorkerId
from millstream.common.process.loop import loop_factory
from tests.common.broker.accounts import check_accounts, check_jobs, check_nothing_immortal, check_readers, look
from tests.common.broker.world import MAX_ATTEMPTS, MODEL, WorkerMind, World

GATEWAYS = (GatewayId("g1"), GatewayId("g2"))
NAMES = tuple(WorkerId(f"w{n}") for n in range(4))
Past = dict[str, tuple[bytes, int]]  # of every key its value and its time to live (ms; 0: none)
sizes = st.lists(st.integers(1, 3), max_size=3)
index = st.integers(0, 1 << 16)


class JobsLife(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner(loop_factory=loop_factory())
        self.broker = Broker(self.url)
        self.run(self.broker.redis.flushall())
        self.world = World(self.broker)
        self.submitted = 0
        self.pasts: list[Past] = [{}]

    def run(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    def mind(self, at: int) -> WorkerMind:
        return list(self.world.minds.values())[at % len(self.world.minds)]

    # ------------------------------------------------------------------------------------------------------- gateways

    @rule(gateway=st.sampled_from(GATEWAYS), tenant=st.sampled_from(["a", "b"]), tier=st.sampled_from(TIERS))
    def submit(self, gateway: GatewayId, tenant: str, tier: Any) -> None:
        self.submitted += 1
        self.run(self.world.submit(f"j{self.submitted}", gateway, tenant, tier, f"key{self.submitted % 5}"))

    @precondition(lambda self: self.world.readers)
    @rule(at=index)
    def read(self, at: int) -> None:
        self.run(self.world.read(self.world.readers[at % len(self.world.readers)]))

    @precondition(lambda self: self.world.late)
    @rule(at=index)
    def a_frame_arrives(self, at: int) -> None:
        self.world.deliver(at % len(self.world.late))

    @precondition(lambda self: self.world.late)
    @rule(at=index)
    def a_frame_is_lost(self, at: int) -> None:
        self.world.late.pop(at % len(self.world.late))

    @precondition(lambda self: any(not reader.follower.unsure for reader in self.world.readers))
    @rule(at=index, gateway=st.sampled_from(GATEWAYS))
    def a_client_comes_back(self, at: int, gateway: GatewayId) -> None:
        sure = [reader for reader in self.world.readers if not reader.follower.unsure]
        self.run(self.world.resume(sure[at % len(sure)], gateway))

    @precondition(lambda self: self.submitted)
    @rule(at=index)
    def cancel(self, at: int) -> None:
        ids = [JobId(f"j{1 + at % self.submitted}")]
        self.run(jobs.cancel(self.broker, MODEL, "", ids))
        self.run(jobs.cancel(self.broker, MODEL, "", ids))

    @precondition(lambda self: self.submitted)
    @rule(at=index)
    def recall(self, at: int) -> None:
        self.run(jobs.recall(self.broker, MODEL, "", JobId(f"j{1 + at % self.submitted}")))

    # -------------------------------------------------------------------------------------------------------- workers

    @rule(name=st.sampled_from(NAMES), slots=st.integers(1, 3))
    def sign_in(self, name: WorkerId, slots: int) -> None:
        mind = self.world.minds.setdefault(name, WorkerMind(name, slots))
        self.run(self.world.beat(mind))

    @precondition(lambda self: self.world.minds)
    @rule(at=index, room=st.integers(1, 3), reply_lost=st.booleans())
    def claim(self, at: int, room: int, reply_lost: bool) -> None:
        self.run(self.world.claim(self.mind(at), room, reply_lost))

    @precondition(lambda self: any(mind.holds for mind in self.world.minds.values()))
    @rule(at=index, made=sizes, end=st.booleans(), reply_lost=st.booleans())
    def step(self, at: int, made: list[int], end: bool, reply_lost: bool) -> None:
        busy = [mind for mind in self.world.minds.values() if mind.holds]
        mind = busy[at % len(busy)]
        for held in mind.holds.values():
            if not held.over:
                held.write(made, end)
        self.run(self.world.step(mind, reply_lost))

    @precondition(lambda self: any(mind.holds for mind in self.world.minds.values()))
    @rule(at=index)
    def hand_back(self, at: int) -> None:
        busy = [mind for mind in self.world.minds.values() if mind.holds]
        mind = busy[at % len(busy)]
        id, held = next(iter(mind.holds.items()))
        for _ in range(2):
            self.run(workers.handoff(self.broker, MODEL, mind.id, [(id, held.job.lease)]))
        del mind.holds[id]

    @precondition(lambda self: any(mind.holds for mind in self.world.minds.values()))
    @rule(at=index)
    def an_upstream_is_lost(self, at: int) -> None:
        busy = [mind for mind in self.world.minds.values() if mind.holds]
        mind = busy[at % len(busy)]
        id, held = next(iter(mind.holds.items()))
        for _ in range(2):
            self.run(workers.retry(self.broker, MODEL, mind.id, [(id, held.job.lease)], 1, MAX_ATTEMPTS))
        del mind.holds[id]

    @precondition(lambda self: any(mind.holds for mind in self.world.minds.values()))
    @rule(at=index)
    def give_way(self, at: int) -> None:
        busy = [mind for mind in self.world.minds.values() if mind.holds]
        self.run(self.world.give_way(busy[at % len(busy)]))

    @precondition(lambda self: self.world.minds)
    @rule(at=index)
    def a_lease_runs_out(self, at: int) -> None:
        """The worker does not know: it is a zombie now."""
        leases, name = keys.leases(MODEL), self.mind(at).id
        if self.run(self.broker.redis.zscore(leases, name)) is not None:
            self.run(self.broker.redis.zadd(leases, {name: 0}))
            self.run(workers.evict_stale(self.broker, MODEL, MAX_ATTEMPTS))

    @precondition(lambda self: self.world.minds)
    @rule(at=index, in_good_order=st.booleans())
    def a_worker_ends(self, at: int, in_good_order: bool) -> None:
        mind = self.mind(at)
        del self.world.minds[mind.id]
        if in_good_order:
            self.run(workers.withdraw(self.broker, MODEL, mind.id))
        else:
            self.run(workers.evict_now(self.broker, MODEL, mind.id, MAX_ATTEMPTS))

    @precondition(lambda self: self.world.minds)
    @rule(made=st.lists(sizes, min_size=4, max_size=4))
    def all_goes_well_for_a_while(self, made: list[list[int]]) -> None:
        """Otherwise few jobs would come far. Each worker makes chunks of its own sizes."""
        for mind, sizes_here in zip(list(self.world.minds.values()), made, strict=False):
            self.run(self.world.beat(mind))
            self.run(self.world.claim(mind, mind.slots, reply_lost=False))
            for held in mind.holds.values():
                held.write([] if held.over else sizes_here, end=False)
            self.run(self.world.step(mind, reply_lost=False))
        for reader in list(self.world.readers):
            self.run(self.world.read(reader))

    @precondition(lambda self: self.world.minds)
    @rule(tiers=st.lists(st.sampled_from(TIERS), min_size=2, max_size=2), gateway=st.sampled_from(GATEWAYS))
    def one_fills_the_slots_and_another_waits(self, tiers: list[Any], gateway: GatewayId) -> None:
        slots = sum(mind.slots for mind in self.world.minds.values())
        for tenant in "a" * (slots + 1) + "b":
            self.submitted += 1
            key = f"own key {self.submitted}"
            self.run(self.world.submit(f"j{self.submitted}", gateway, tenant, tiers[tenant == "b"], key))
            if tenant == "a":
                self.all_goes_well_for_a_while([[1, 1]] * 4)
        self.run(self.broker.run(SHARE, MODEL, ShareArgs(patience_ms=0, pause_ms=0)))
        for mind in self.world.minds.values():
            self.run(self.world.give_way(mind))

    # ---------------------------------------------------------------------------------------------------------- time

    @precondition(lambda self: self.submitted)
    @rule(at=index)
    def a_deadline_passes(self, at: int) -> None:
        id = JobId(f"j{1 + at % self.submitted}")
        if self.run(self.broker.redis.zscore(keys.deadlines(MODEL), id)) is not None:
            self.run(self.broker.redis.hset(keys.job(MODEL, id), "deadline", 1))
            self.run(self.broker.redis.zadd(keys.deadlines(MODEL), {id: 1}))

    @rule()
    def upkeep(self) -> None:
        self.run(self.broker.redis.delete(keys.upkeep(MODEL)))
        self.run(keep_up(self.broker, MODEL, UpkeepRules(MAX_ATTEMPTS, fair_after_ms=1)))

    @rule()
    def append_only_file_is_synced(self) -> None:
        self.pasts = [*self.pasts[-3:], self.run(snapshot(self.broker))]

    @rule(at=index, gateways_first=st.booleans(), a_worker_too=st.booleans())
    def forget(self, at: int, gateways_first: bool, a_worker_too: bool) -> None:
        """Redis restarts without its tail, and perhaps a worker died with it. In its grace gateways attach all their
        streams; or one comes too late."""
        self.pasts = self.pasts[: at % len(self.pasts) + 1]
        self.run(restore(self.broker, self.pasts[-1]))
        if a_worker_too and self.world.minds:
            self.a_worker_ends(at, in_good_order=False)
        for reader in self.world.readers:
            reader.follower.lost()
        if gateways_first:
            for reader in list(self.world.readers):
                self.run(self.world.read(reader))

    # ----------------------------------------------------------------------------------------------------- invariants

    @invariant()
    def all_is_in_order(self) -> None:
        now = self.run(look(self.world))
        check_jobs(now)
        check_accounts(now)
        check_readers(self.world)

    def teardown(self) -> None:
        try:
            self.run(check_nothing_immortal(self.world))
        finally:
            self.run(self.broker.aclose())
            self.loop.close()


async def snapshot(broker: Broker) -> Past:
    past: Past = {}
    async for name in broker.redis.scan_iter():
        value = await broker.redis.execute_command("DUMP", name, NEVER_DECODE=True)
        if value is not None:
            past[name] = value, max(0, await broker.redis.pttl(name))
    return past


async def restore(broker: Broker, past: Past) -> None:
    await broker.redis.flushall()
    for name, (value, ttl) in past.items():
        await broker.redis.restore(name, ttl, value)


@pytest.mark.timeout(400)  # what is drawn may be long, and other tests run beside it
def test_any_interleaving_keeps_the_queue_in_order(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GRACE_MS", 0)  # the order of events is the machine's to choose
    monkeypatch.setattr(JobsLife, "url", valkey.url)
    bounds = settings(
        max_examples=40,
        stateful_step_count=50,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(JobsLife, settings=bounds)
