# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Names of models that nobody has any more: listed for a while, so that requests may wait for a worker, then gone."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.models.directory import ModelInfo, model_info, other_names_of
from millstream.common.broker.models.load_requests import loading_stage
from millstream.common.job import ModelName

LOOK_EVERY = 5.0  # seconds between two looks of one process
SETTLING = 10.0  # seconds after its start in which a process takes no name away: workers may be starting as well


def in_use(info: ModelInfo) -> bool:
    """Tells whether a model has a worker, somebody who could load it, or a job."""
    return bool(info.live or info.loaders or info.waiting or any(worker.load for worker in info.workers))


async def withdraw_name(broker: Broker, model: ModelName) -> bool:
    """Unlists a model that nobody uses, with its other names; what an operator set for it stays. Returns whether it
    did."""
    if in_use(await model_info(broker, model)) or await loading_stage(broker, model):
        return False
    async with redis_errors():
        await cast(Awaitable[int], broker.redis.srem(keys.MODELS, model))
    if in_use(await model_info(broker, model)):  # a job came in between: somebody has to look after it
        async with redis_errors():
            await cast(Awaitable[int], broker.redis.sadd(keys.MODELS, model))
        return False
    names = await other_names_of(broker, model)
    async with redis_errors():
        await cast(Awaitable[int], broker.redis.hdel(keys.UNUSED, model))
        if names:
            await cast(Awaitable[int], broker.redis.hdel(keys.NAMES, *names))
    return True


@dataclass(slots=True)
class UnusedNames:
    """One process's part in taking away names that have been unused for `after` seconds; 0: none is."""

    broker: Broker
    after: float
    _started: float = field(default_factory=monotonic)
    _looked: float = 0.0

    async def look(self, models: Sequence[ModelName]) -> list[ModelName]:
        """Notes since when each model is unused, by the server's clock, and takes away what is due; returns that.
        Raises `RedisAway`."""
        if not self.after or monotonic() - self._looked < LOOK_EVERY:
            return []
        self._looked = monotonic()
        async with redis_errors():
            now, _ = await self.broker.redis.time()
            unused = await cast(Awaitable[dict[str, str]], self.broker.redis.hgetall(keys.UNUSED))
        due = [model for model in models if await self._is_due(model, unused.get(model), now)]
        return [model for model in due if await withdraw_name(self.broker, model)]

    async def _is_due(self, model: ModelName, since: str | None, now: int) -> bool:
        if in_use(await model_info(self.broker, model)):
            if since is not None:
                async with redis_errors():
                    await cast(Awaitable[int], self.broker.redis.hdel(keys.UNUSED, model))
            return False
        if since is None:
            async with redis_errors():
                await cast(Awaitable[int], self.broker.redis.hset(keys.UNUSED, model, str(now)))
            return False
        return now - int(since) >= self.after and monotonic() - self._started >= min(self.after, SETTLING)
