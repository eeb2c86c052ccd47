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
from typing import Literal, NamedTuple, cast

from millstream.common.broker import keys
from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.scripts.script import Script
from millstream.common.job import JobId, ModelName

LAPSE_MS = 300_000  # beyond the deadline: until then a job is settled, unless its gateway died before submitting it
BATCH = 500  # jobs settled in one call: about a millisecond

Reason = Literal["", "requests", "tokens", "size", "concurrent", "day", "month"]


@dataclass(frozen=True, slots=True)
class Meter:
    """The rest of a minute's requests and tokens, and how long until all of it is there (seconds)."""

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


@dataclass(slots=True, kw_only=True)
class ReserveArgs:
    """The request, and its key's limits."""

    request: str
    lapse_ms: int
    requests_per_minute: int
    tokens_per_minute: int
    concurrent: int
    tokens_per_day: int
    tokens_per_month: int


@dataclass(slots=True, kw_only=True)
class RepayArgs:
    """The arguments say whether the request was never made."""

    unmade: int


class JobTokens(NamedTuple):
    """A job with the tokens to be set aside for it, or those it used."""

    id: JobId
    tokens: int


RESERVE = Script("account/reserve", ReserveArgs, JobTokens)
REPAY = Script("account/repay", RepayArgs, JobTokens)


async def reserve(broker: Broker, key: ApiKey, request: str, tokens: Mapping[JobId, int], timeout_ms: int) -> Reserved:
    """Sets a request's tokens aside, all or nothing; the same request again changes nothing."""
    limits = key.limits
    args = ReserveArgs(
        request=request,
        lapse_ms=timeout_ms + LAPSE_MS,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        concurrent=limits.concurrent,
        tokens_per_day=limits.tokens_per_day,
        tokens_per_month=limits.tokens_per_month,
    )
    jobs = map(JobTokens._make, tokens.items())
    _, reason, wait, *figures = await broker.run_on(RESERVE, keys.account_prefix(key.id), args, jobs)
    requests, requests_ms, left, left_ms = map(int, figures)
    return Reserved(reason, int(wait) / 1000, Meter(requests, requests_ms / 1000, left, left_ms / 1000))


async def refund(broker: Broker, account: str, jobs: Sequence[JobId]) -> None:
    """Gives the tokens back of a request that never entered, as if it had not been made."""
    await _repay(broker, account, [JobTokens(job, 0) for job in jobs], unmade=True)


async def settle_owed(broker: Broker, model: ModelName) -> int:
    """Carries what a model's settled jobs owe over to their keys; returns how many were settled now."""
    async with redis_errors():
        owed = await cast(Awaitable[dict[str, str]], broker.of(model).redis.hgetall(keys.owed(model)))
    by_account: dict[str, list[JobTokens]] = defaultdict(list)
    for job, entry in owed.items():
        account, _, tokens = entry.rpartition(" ")
        by_account[account].append(JobTokens(JobId(job), int(tokens)))
    settled = 0
    for account, pairs in by_account.items():
        for at in range(0, len(pairs), BATCH):
            settled += await _repay(broker, account, pairs[at : at + BATCH])
    if owed:
        async with redis_errors():
            await cast(Awaitable[int], broker.of(model).redis.hdel(keys.owed(model), *owed))
    return settled


async def _repay(broker: Broker, account: str, jobs: Sequence[JobTokens], *, unmade: bool = False) -> int:
    args = RepayArgs(unmade=int(unmade))
    return int(await broker.run_on(REPAY, keys.account_prefix(account), args, jobs))


@dataclass(frozen=True, slots=True)
class Use:
    """The use of a key: tokens by day and month (UTC) as `2026-01-31` and `2026-01`, and requests open now."""

    tokens: Mapping[str, int]
    open_requests: int


async def periods(broker: Broker) -> tuple[str, str]:
    """Returns today and this month (UTC) by Redis's clock, as `usage` names them."""
    async with redis_errors():
        seconds, _ = await cast(Awaitable[tuple[int, int]], broker.redis.time())
    now = datetime.fromtimestamp(seconds, UTC)
    return now.strftime("%Y-%m-%d"), now.strftime("%Y-%m")


async def usage(broker: Broker, account: str, periods: Sequence[str]) -> Use:
    """Returns the tokens used in each of the periods, those set aside for running jobs included."""
    async with redis_errors():
        pipe = broker.redis.pipeline(transaction=False)
        for period in periods:
            pipe.get(keys.spent(account, period))
        pipe.hlen(keys.open_requests(account))
        *tokens, open_now = await pipe.execute()
    return Use({period: int(found or 0) for period, found in zip(periods, tokens, strict=True)}, int(open_now))
