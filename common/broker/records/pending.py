# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Background responses whose end nobody has stored yet, and webhooks that could not be delivered."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.records.job_states import job_states
from millstream.common.job import SETTLED, JobId, ModelName

MOST_DEAD = 1000  # undelivered webhooks kept, the newest


class Awaited(msgspec.Struct, frozen=True):
    """A background response: whose it is, and which model's job it is."""

    tenant: str
    model: str


@dataclass(frozen=True, slots=True)
class EndedResponse:
    """A background response whose job is over, or gone."""

    id: str
    tenant: str


class Pending:
    """The pending work of background processes. Every method raises `Unavailable` while Redis is away."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def add(self, response: str, tenant: str, model: ModelName) -> None:
        """Adds a background response that has begun."""
        value = msgspec.json.encode(Awaited(tenant, model)).decode()
        async with redis_errors():
            await cast(Awaitable[int], self._broker.redis.hset(keys.RESPONSES, response, value))

    async def ended(self) -> list[EndedResponse]:
        """Returns the background responses whose jobs have settled."""
        async with redis_errors():
            found = await cast(Awaitable[dict[str, str]], self._broker.redis.hgetall(keys.RESPONSES))
        awaited = {JobId(id): msgspec.json.decode(text, type=Awaited) for id, text in found.items()}
        states = await job_states(self._broker, ((ModelName(each.model), id) for id, each in awaited.items()))
        over = (None, *SETTLED)
        return [EndedResponse(id, each.tenant) for id, each in awaited.items() if id in states and states[id] in over]

    async def awaits(self, response: str) -> bool:
        """Tells whether its end is still to be stored."""
        async with redis_errors():
            return await cast(Awaitable[bool], self._broker.redis.hexists(keys.RESPONSES, response))

    async def remove(self, response: str) -> None:
        """Removes a response whose end is stored."""
        async with redis_errors():
            await cast(Awaitable[int], self._broker.redis.hdel(keys.RESPONSES, response))

    async def keep_dead(self, webhook: Mapping[str, str]) -> None:
        """Keeps a webhook that could not be delivered, for an operator."""
        async with redis_errors():
            fields = cast(dict[Any, Any], dict(webhook))
            await cast(Awaitable[str], self._broker.redis.xadd(keys.DEAD_WEBHOOKS, fields, maxlen=MOST_DEAD))

    async def dead(self, count: int = 100) -> list[dict[str, str]]:
        """Returns the newest undeliverable webhooks, at most `count`."""
        async with redis_errors():
            command = self._broker.redis.xrevrange(keys.DEAD_WEBHOOKS, count=count)
            found = await cast(Awaitable[list[tuple[str, dict[str, str]]]], command)
        return [fields for _, fields in found]
