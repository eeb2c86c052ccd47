# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Batches as Redis knows them: their status, counts and cursor, the answers of their lines, who works on them."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.records.uptime import sought
from millstream.common.broker.scripts.script import NoArguments, Script

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
OVER: frozenset[BatchStatus] = frozenset(("failed", "completed", "expired", "cancelled"))

SIGNS = {"completed": b"+", "failed": b"-"}  # before a kept answer


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to work on a batch, until the lease runs out. `now` is Redis time in seconds."""

    grant: int
    now: float
    status: str


@dataclass(frozen=True, slots=True)
class LineResult:
    """One line's answer: a line of the output (or error) file, as JSON."""

    line: int
    outcome: Literal["completed", "failed"]
    json: bytes


def _result(line: int, value: bytes) -> LineResult:
    return LineResult(line, "completed" if value[:1] == b"+" else "failed", value[1:])


@dataclass(slots=True, kw_only=True)
class HoldArgs:
    """The arguments say who takes the lease, and for how long."""

    owner: str
    lease_ms: int


@dataclass(slots=True, kw_only=True)
class RecordArgs:
    """The arguments name the lease of the writer."""

    grant: int


class RecordedLine(NamedTuple):
    """One line's answer, with its sign before it."""

    line: int
    outcome: str
    answer: bytes


@dataclass(slots=True, kw_only=True)
class FlushArgs:
    """The lines [from, to), where the input goes on, and the part they lie in."""

    grant: int
    from_line: int
    to_line: int
    offset: int
    part: bytes


@dataclass(slots=True, kw_only=True)
class MoveArgs:
    """`allowed`: the statuses it may have now, separated by spaces; `fields`: names and values in turn."""

    grant: int | str
    allowed: str
    to: str
    fields: Sequence[str | int]


CLOCK = Script("batch/clock", NoArguments)
HOLD = Script("batch/hold", HoldArgs)
RECORD = Script("batch/record", RecordArgs, RecordedLine)
FLUSH = Script("batch/flush", FlushArgs)
MOVE = Script("batch/move", MoveArgs)


class Batches:
    """The batches of all tenants. Every method raises `Unavailable` while Redis is away."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create(self, batch: str, fields: Mapping[str, str | int], created: int, ttl: float) -> None:
        """Creates a new batch, to be validated. It is gone `ttl` seconds from now."""
        state = {"status": "validating", "flushed": 0, "offset": 0, "grant": 0, **fields}
        async with redis_errors():
            pipe = self._broker.redis.pipeline(transaction=False)
            pipe.hset(keys.batch_state(batch), mapping=state)
            pipe.pexpire(keys.batch_state(batch), int(ttl * 1000))
            pipe.zadd(keys.BATCHES, {batch: created})
            await pipe.execute()

    async def state(self, batch: str) -> dict[str, str]:
        """Returns all fields; empty when there is no such batch, nor will be after a restart of the server."""

        async def look() -> dict[str, str] | None:
            async with redis_errors():
                found = self._broker.redis.hgetall(keys.batch_state(batch))
                return await cast(Awaitable[dict[str, str]], found) or None

        return await sought(self._broker, keys.batch_prefix(batch), look) or {}

    async def active(self) -> list[str]:
        """Returns the batches that are not over, the oldest first."""
        async with redis_errors():
            return await cast(Awaitable[list[str]], self._broker.redis.zrange(keys.BATCHES, 0, -1))

    async def idle(self) -> list[tuple[str, str]]:
        """Returns the active batches nobody works on, the one whose last turn is longest ago first, with their last
        grant (empty: the batch itself has expired)."""
        batches = await self.active()
        if not batches:
            return []
        async with redis_errors():
            pipe = self._broker.redis.pipeline(transaction=False)
            for batch in batches:
                pipe.hmget(keys.batch_state(batch), ["until", "grant"])
            rows = await pipe.execute()
        now = int(await self._broker.run_on(CLOCK, keys.batch_prefix(batches[0]), NoArguments()))
        found = [
            (float(until or 0), batch, grant or "")
            for batch, (until, grant) in zip(batches, cast(list[tuple[str | None, str | None]], rows), strict=True)
        ]
        return [(batch, grant) for until, batch, grant in sorted(found) if until <= now]

    async def forget(self, batch: str) -> None:
        """Forgets a batch that is over, or whose state has expired: nobody need look at it again, and its answers lie
        in files."""
        async with redis_errors():
            pipe = self._broker.redis.pipeline(transaction=False)
            pipe.delete(keys.batch_results(batch))
            pipe.delete(keys.batch_parts(batch))
            pipe.zrem(keys.BATCHES, batch)
            await pipe.execute()

    async def hold(self, batch: str, owner: str, lease: float) -> Hold | None:
        """Takes or renews the lease for `lease` seconds (0 lets go). None: somebody else has it, or it is gone."""
        args = HoldArgs(owner=owner, lease_ms=int(lease * 1000))
        answer = await self._broker.run_on(HOLD, keys.batch_prefix(batch), args)
        return Hold(int(answer[1]), int(answer[2]) / 1000, answer[3]) if answer[0] == "ok" else None

    async def record(self, batch: str, grant: int, results: Sequence[LineResult]) -> bool:
        """Keeps answers, each once. False: the lease is somebody else's."""
        lines = [RecordedLine(each.line, each.outcome, SIGNS[each.outcome] + each.json) for each in results]
        return bool(await self._broker.run_on(RECORD, keys.batch_prefix(batch), RecordArgs(grant=grant), lines))

    async def results(self, batch: str, first: int, count: int) -> list[LineResult | None]:
        """Returns the answers of `count` lines from `first` on; None where there is none yet."""
        if count <= 0:
            return []
        async with redis_errors():
            command = self._broker.redis.hmget(keys.batch_results(batch), [str(first + at) for at in range(count)])
            found = await cast(Awaitable[list[str | None]], command)
        return [None if each is None else _result(first + at, each.encode()) for at, each in enumerate(found)]

    async def recorded(self, batch: str) -> set[int]:
        """Returns the lines that have an answer but do not lie in a part yet."""
        async with redis_errors():
            names = await cast(Awaitable[list[str]], self._broker.redis.hkeys(keys.batch_results(batch)))
        return {int(name) for name in names}

    async def flush(self, batch: str, grant: int, lines: tuple[int, int], offset: int, part: bytes) -> bool:
        """Notes that the answers of the lines [from, to) lie in a part now. False: another process has the lease."""
        args = FlushArgs(grant=grant, from_line=lines[0], to_line=lines[1], offset=offset, part=part)
        return bool(await self._broker.run_on(FLUSH, keys.batch_prefix(batch), args))

    async def parts(self, batch: str) -> list[bytes]:
        """Returns what was flushed, in the order of the lines."""
        async with redis_errors():
            found = await cast(Awaitable[list[str]], self._broker.redis.lrange(keys.batch_parts(batch), 0, -1))
        return [each.encode() for each in found]

    async def move(
        self,
        batch: str,
        allowed: Sequence[BatchStatus],
        to: BatchStatus,
        fields: Mapping[str, str | int] | None = None,
        grant: int | None = None,
    ) -> tuple[bool, str]:
        """Changes the status if it is one of `allowed` (and the lease, if given, is still ours); whether it did, and
        the status now (empty: no such batch)."""
        flat = [part for pair in (fields or {}).items() for part in pair]
        args = MoveArgs(grant="" if grant is None else grant, allowed=" ".join(allowed), to=to, fields=flat)
        changed, status = await self._broker.run_on(MOVE, keys.batch_prefix(batch), args)
        return bool(changed), status
