# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false
"""The routing policy of a model: kept in Redis, read by the scripts at every job, so a change counts at once."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.errors import BadRequest
from millstream.common.job import ModelName

Rule = Literal["shortest_queue", "lottery", "prefix", "session"]
RULES: tuple[Rule, ...] = get_args(Rule)
MARGIN = 4  # jobs; the scripts use the same when a model has no margin of its own


@dataclass(frozen=True, slots=True)
class Policy:
    """`margin`: how many jobs above the least loaded the worker with the warm cache may hold. `reserve`: slots of each
    worker that flex and batch jobs leave free (one always remains for them)."""

    rule: Rule = "shortest_queue"
    margin: int = MARGIN
    reserve: int = 0


async def read_policy(broker: Broker, model: ModelName) -> Policy:
    """Returns the model's policy; the default if none was set."""
    async with redis_errors():
        found = await cast(Awaitable[dict[str, str]], broker.of(model).redis.hgetall(keys.policy(model)))
    rule = found.get("policy", "shortest_queue")
    return Policy(
        rule if rule in RULES else "shortest_queue",
        int(found.get("margin", MARGIN)),
        int(found.get("reserve", 0)),
    )


async def write_policy(broker: Broker, model: ModelName, policy: Policy) -> None:
    """Counts from the next job on, for all gateways. Raises `BadRequest` for figures that make no sense."""
    if policy.rule not in RULES:
        raise BadRequest(f"Unknown policy '{policy.rule}'. Expected one of: {', '.join(RULES)}.", param="policy")
    if policy.margin < 0 or policy.reserve < 0:
        raise BadRequest("'margin' and 'reserve' are numbers of jobs, 0 or more.", param="margin")
    fields = {"policy": policy.rule, "margin": policy.margin, "reserve": policy.reserve}
    async with redis_errors():
        await cast(Awaitable[int], broker.of(model).redis.hset(keys.policy(model), mapping=fields))
