"""The laws of the queue that must hold at every moment, judged from one look at all its keys."""

import json
from dataclasses import dataclass
from typing import Any

from millstream.common.broker import jobs, keys
from millstream.common.broker.workers import evict_now
from millstream.common.job import TIERS, JobId, WorkerId
from tests.common.broker.world import MAX_ATTEMPTS, MODEL, World

PREFIX = keys.prefix(MODEL)
IMMORTAL = {
    keys.server(MODEL),
    keys.dead(MODEL),
    keys.gateways(MODEL),
    keys.tally(MODEL),
}  # each bounded: docs/protocol.md

LOOK = """
local all, read = {}, {
  hash = function(k) return redis.call('HGETALL', k) end, string = function(k) return redis.call('GET', k) end,
  set = function(k) return redis.call('SMEMBERS', k) end,
  stream = function(k) return redis.call('XRANGE', k, '-', '+') end,
  zset = function(k) return redis.call('ZRANGE', k, 0, -1, 'WITHSCORES') end,
}
for _, k in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', k).ok
  all[#all + 1] = {k, kind, redis.call('PTTL', k), read[kind](k)}
end
return cjson.encode(all)
"""


def pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


@dataclass
class Look:
    """Every key below the model's prefix: its value as Python has it, and its time to live (ms; -1: none)."""

    values: dict[str, Any]
    ttls: dict[str, int]

    def named(self, start: str) -> dict[str, Any]:
        """Values of all keys that begin so; by the rest of their name."""
        return {name.removeprefix(start): value for name, value in self.values.items() if name.startswith(start)}

    def waiting(self, start: str) -> dict[str, list[str]]:
        """Streams of jobs, by name."""
        streams = {name: value for name, value in self.values.items() if name.startswith(start)}
        return {name: [pairs(fields)["job"] for _, fields in entries] for name, entries in streams.items()}


async def look(world: World) -> Look:
    rows = json.loads(await world.broker.redis.eval(LOOK, 0))  # type: ignore[misc]
    turn = {"hash": pairs, "zset": pairs, "set": set}
    values = {name.removeprefix(PREFIX): turn.get(kind, lambda raw: raw)(raw) for name, kind, _, raw in rows}
    return Look(values, {name.removeprefix(PREFIX): ttl for name, _, ttl, _ in rows})


def check_jobs(now: Look) -> None:
    """One owner each; queued ones wait in exactly one place; logs without hole or repeat; settled ones will go."""
    held = now.named("fences:")
    waits = {**now.waiting("inbox:"), **now.waiting("backlog:"), **now.waiting("resume")}
    for id, job in now.named("job:").items():
        owners = [worker for worker, ids in held.items() if id in ids]
        places = [stream for stream, ids in waits.items() for each in ids if each == id]
        match job["state"]:
            case "running":
                assert owners == [job["worker"]] and job["lease"].endswith(":" + job["worker"]), (job, owners)
                readers = ",".join(job[field] for field in ("gateway", "earlier") if field in job)
                wanted = "cancel" if "cancel" in job else "preempt" if "preempt" in job else ""
                assert held[job["worker"]][id] == f"{job['lease']} {readers} {wanted}", (job, held)
                assert places == [], (job, places)
            case "queued":
                assert owners == [] and places == [job["where"]], (job, owners, places)
            case _:
                assert owners == [] and places == [], (job, owners, places)
                assert now.ttls[f"job:{id}"] > 0 and now.ttls.get(f"chunks:{id}", 1) > 0
                assert id not in now.values.get("deadlines", {})
        check_log(now, id, job)


def check_log(now: Look, id: str, job: dict[str, str]) -> None:
    entries = now.values.get(f"chunks:{id}", [])
    seqs = [int(entry.partition("-")[2]) for entry, _ in entries]
    tokens = [token for _, fields in entries for token in json.loads(pairs(fields)["c"]).get("ids", [])]
    assert seqs == list(range(1, len(seqs) + 1)), (job, seqs)
    assert tokens == list(range(len(tokens))), (job, tokens)


def check_readers(world: World) -> None:
    """Checks that what a client was given is whole."""
    for reader in world.readers:
        tokens = [*reader.had, *reader.tokens]
        assert tokens == list(range(len(tokens))), (reader.follower.job, reader.had, reader.tokens)


def check_accounts(now: Look) -> None:
    """Load is what a worker holds and is about to; the counters are what the streams hold; tenants agree with both."""
    held, inboxes = now.named("fences:"), {name[6:]: ids for name, ids in now.waiting("inbox:").items()}
    loads = now.values.get("load", {})
    for worker in {*held, *loads, *inboxes}:
        has = len(held.get(worker, ())) + len(inboxes.get(worker, ()))
        assert float(loads.get(worker, 0)) == has, (worker, loads, held, inboxes)
    backlogs, resumes = now.waiting("backlog:"), now.waiting("resume")
    waiting = {**backlogs, **resumes}
    counted = now.values.get("waiting", {})
    assert int(counted.get("jobs", 0)) == sum(map(len, waiting.values())), (counted, waiting)
    assert all(int(count) > 0 for count in counted.values()), counted
    assert all(waiting.values()), f"an empty stream is still there: {waiting}"
    for tier in TIERS:
        mine = {name.split(":")[2]: ids for name, ids in backlogs.items() if name.split(":")[1] == tier}
        assert set(now.values.get(f"tenants:{tier}", {})) == set(mine), (tier, mine)
        orders = now.named(f"order:{tier}:")
        assert {tenant: len(order) for tenant, order in orders.items()} == {t: len(ids) for t, ids in mine.items()}
        running = set(now.values.get(f"running:{tier}", {}))
        assert not running or running == {
            id for id, job in now.named("job:").items() if job["tier"] == tier and job["state"] == "running"
        }


async def check_nothing_immortal(world: World) -> None:
    """Once every job is settled and every worker gone, what is left has a time to live, or is bounded."""
    now = await look(world)
    ids = [JobId(id) for id in now.named("job:")]
    await jobs.cancel(world.broker, MODEL, "", ids)
    for worker in {*now.values.get("leases", {}), *now.named("fences:")}:
        await evict_now(world.broker, MODEL, WorkerId(worker), MAX_ATTEMPTS)
    after = await look(world)
    states = {id: job["state"] for id, job in after.named("job:").items()}
    assert not {"queued", "running"} & set(states.values()), states
    immortal = {PREFIX + name for name, ttl in after.ttls.items() if ttl == -1}
    assert immortal <= IMMORTAL, immortal
