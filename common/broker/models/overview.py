# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""One look at the whole cluster: models, workers, queues, the jobs due first, and the server they are in."""

import asyncio
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.connection.by_server import look_at_each
from millstream.common.broker.models.directory import ModelInfo, census
from millstream.common.broker.models.inspection import LiveJob, Queue, ServerFacts, live_jobs, queues, server_facts
from millstream.common.broker.models.load_requests import loading_stage
from millstream.common.broker.models.policy import Policy, read_policy
from millstream.common.job import ModelName

JOBS_SHOWN = 200  # live jobs of each model that a look brings along; `jobs_page` has all


@dataclass(frozen=True, slots=True)
class ModelOverview:
    """One model now. `leases`: worker -> seconds left of its lease; `live`: its jobs that are not settled; `dead`:
    those that killed their workers and are kept for an operator; `fenced`: worker -> its writes of the last day that
    were refused because it had lost the lease."""

    info: ModelInfo
    policy: Policy
    loading: str
    queues: list[Queue]
    jobs: list[LiveJob]
    live: int
    dead: int
    leases: dict[str, float]
    fenced: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Overview:
    """The cluster at one moment. `at`: Redis time in seconds; `round_trip`: seconds that the server took to answer."""

    at: float
    round_trip: float
    server: ServerFacts
    models: list[ModelOverview] = field(default_factory=list[ModelOverview])


async def overview(broker: Broker) -> Overview:
    """Looks at everything once. Raises `RedisAway`."""
    began = monotonic()
    async with redis_errors():
        seconds, micros = cast(tuple[int, int], await broker.redis.time())
    took, at = monotonic() - began, seconds + micros / 1e6
    server, infos = await asyncio.gather(server_facts(broker), census(broker))
    reached = {info.name: info for info in infos if not info.away}
    seen, away = await look_at_each(broker, reached, lambda name: _model(broker, reached[name]))
    gone = [replace(reached[name], away=error.message) for name, error in away.items()]
    blank = {info.name: _unseen(info) for info in [*infos, *gone] if info.name not in seen}
    models = [seen.get(info.name) or blank[info.name] for info in infos]
    return Overview(at, took, server, models)


def _unseen(info: ModelInfo) -> ModelOverview:
    """Returns a model whose server does not answer."""
    return ModelOverview(info, Policy(), "", [], [], 0, 0, {})


async def _model(broker: Broker, info: ModelInfo) -> ModelOverview:
    (seconds, micros), live, dead, leases, fenced = await _counts(broker, info.name)
    at = seconds + micros / 1e6  # by its own server's clock
    return ModelOverview(
        info=info,
        policy=await read_policy(broker, info.name),
        loading="" if info.live else await loading_stage(broker, info.name),
        queues=await queues(broker, info.name),
        jobs=await live_jobs(broker, info.name, JOBS_SHOWN),
        live=live,
        dead=dead,
        leases={worker: until / 1000 - at for worker, until in leases},
        fenced={worker: int(writes) for worker, writes in fenced.items()},
    )


Counts = tuple[tuple[int, int], int, int, list[tuple[str, float]], dict[str, str]]


async def _counts(broker: Broker, model: ModelName) -> Counts:
    async with redis_errors():
        pipe = broker.of(model).redis.pipeline(transaction=False)
        pipe.time()
        pipe.zcard(keys.deadlines(model))
        pipe.xlen(keys.dead(model))
        pipe.zrange(keys.leases(model), 0, -1, withscores=True)
        pipe.hgetall(keys.fenced(model))
        return cast(Counts, tuple(await pipe.execute()))
