# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The states of the jobs that records wait for, wherever their queues lie."""

from collections import defaultdict
from collections.abc import Iterable
from typing import cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.connection.by_server import look_at_each
from millstream.common.job import JobId, JobState, ModelName


async def job_states(broker: Broker, wanted: Iterable[tuple[ModelName, JobId]]) -> dict[JobId, JobState | None]:
    """Returns the state of each job, None for one that there is no more. Jobs whose server is away are left out. Raises
    `RedisAway` if home is."""
    by_model: dict[ModelName, list[JobId]] = defaultdict(list)
    for model, job in wanted:
        by_model[model].append(job)

    async def look(model: ModelName) -> list[JobState | None]:
        async with redis_errors():
            pipe = broker.of(model).redis.pipeline(transaction=False)
            for job in by_model[model]:
                pipe.hget(keys.job(model, job), "state")
            return cast(list[JobState | None], await pipe.execute())

    seen, _ = await look_at_each(broker, by_model, look)
    return {job: state for model, found in seen.items() for job, state in zip(by_model[model], found, strict=True)}
