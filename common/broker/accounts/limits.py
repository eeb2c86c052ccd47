# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The limits of API keys: tokens are reserved before a request enters and settled exactly once when its jobs end.

A key's figures lie in its own cluster slot, a job in its model's. What joins them is the hash `owed`: the script that
settles a job notes there, in the same step, what its key owes. Whoever comes first carries it over; doing it twice
changes nothing, because a reservation can be repaid once only.
"""

from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from millstream.common.broker import keys
from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.job import JobId, ModelName

LAPSE_MS = 300_000  # beyond the deadline: until then a job is settled, unless its gateway died before submitting it
BATCH = 500  # jobs settled in one call: about a millisecond

Reason = Literal["", "requests", "tokens", "size", "concurrent", "day", "month"]


@dataclass(frozen=True, slots=True)
class Meter:
    """What is left of a minute's requests and tokens, and how long until all of it is (seconds)."""

    requests: int
    requests_reset: float
    tokens: int
    tokens_reset: float


@dataclass(frozen=True, slots=True)
class Reserved:
    """`reason` names the limit that was reached, `wait` (seconds) until it no longer is; empty: it may enter."""

    reason: Reason
    wait: float
    meter: Meter


async def reserve(broker: Broker, key: ApiKey, request: str, tokens: Mapping[JobId, int], timeout_ms: int) -> Reserved:
    """Set a request's tokens aside, all or nothing; the same request again changes nothing."""
    limits = key.limits
    args: list[Any] = [request, timeout_ms + LAPSE_MS, limits.requests_per_minute, limits.tokens_per_minute]
    args += [limits.concurrent, limits.tokens_per_day, limits.tokens_per_month, len(tokens)]
    args += [part for pair in tokens.items() for part in pair]
    _, reason, wait, *figures = await broker.run_on("account/reserve", keys.account_prefix(key.id), *args)
    requests, requests_ms, left, left_ms = map(int, figures)
    return Reserved(reason, int(wait) / 1000, Meter(requests, requests_ms / 1000, left, left_ms / 1000))


async def refund(broker: Broker, account: str, jobs: Sequence[JobId]) -> None:
    """The request never entered: as if it had not been made."""
    await _repay(broker, account, 1, [(job, 0) for job in jobs])


async def settle_owed(broker: Broker, model: ModelName) -> int:
    """Carry what a model's settled jobs owe over to their keys; how many were settled now."""
    async with redis_errors():
        owed = await cast(Awaitable[dict[str, str]], broker.redis.hgetall(keys.owed(model)))
    by_account: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for job, entry in owed.items():
        account, _, tokens = entry.rpartition(" ")
        by_account[account].append((job, int(tokens)))
    settled = 0
    for account, pairs in by_account.items():
        for at in range(0, len(pairs), BATCH):
            settled += await _repay(broker, account, 0, pairs[at : at + BATCH])
    if owed:
        async with redis_errors():
            await cast(Awaitable[int], broker.redis.hdel(keys.owed(model), *owed))
    return settled


async def _repay(broker: Broker, account: str, give_back: int, pairs: Sequence[tuple[str, int]]) -> int:
    args = [part for pair in pairs for part in pair]
    return int(await broker.run_on("account/repay", keys.account_prefix(account), give_back, *args))


@dataclass(frozen=True, slots=True)
class Use:
    """What a key has used: tokens by day and month (UTC) as `2026-01-31` and `2026-01`, and requests open now."""

    tokens: Mapping[str, int]
    open_requests: int


async def periods(broker: Broker) -> tuple[str, str]:
    """Today and this month (UTC) by Redis's clock, as `usage` names them."""
    async with redis_errors():
        seconds, _ = await cast(Awaitable[tuple[int, int]], broker.redis.time())
    now = datetime.fromtimestamp(seconds, UTC)
    return now.strftime("%Y-%m-%d"), now.strftime("%Y-%m")


async def usage(broker: Broker, account: str, periods: Sequence[str]) -> Use:
    """Tokens used in each of the periods, those set aside for running jobs included."""
    async with redis_errors():
        pipe = broker.redis.pipeline(transaction=False)
        for period in periods:
            pipe.get(keys.spent(account, period))
        pipe.hlen(keys.open_requests(account))
        *tokens, open_now = await pipe.execute()
    return Use({period: int(found or 0) for period, found in zip(periods, tokens, strict=True)}, int(open_now))
