# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The directory of what is served, read from Redis: models, their workers, and how long each queue is."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import msgspec

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.connection.by_server import look_at_each
from millstream.common.broker.models.load_requests import ModelLoader, loaders_of
from millstream.common.broker.scripts.script import NoArguments, Script
from millstream.common.job import ModelName, WorkerId

VITALS = Script("worker/vitals", NoArguments)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker as its last heartbeat told, for one model."""

    id: WorkerId
    model: ModelName
    alive: bool
    load: int  # jobs it holds now
    slots: int
    speed: float  # tokens/s, smoothed; 0: not measured yet
    details: dict[str, str] = field(default_factory=dict[str, str])  # the rest of the heartbeat hash

    @property
    def started(self) -> int:
        """Returns when its process started, seconds since the epoch."""
        return int(self.details.get("started", 0))

    @property
    def context_length(self) -> int:
        """Returns how many tokens a job may have there; 0 if it has not said."""
        return int(self.details.get("context_length") or 0)

    def announces(self, name: str) -> bool:
        """Tells whether it can be asked by that other name; one of an older version does not say."""
        told = self.details.get("names")
        return told is None or name in msgspec.json.decode(told, type=list[str])

    @property
    def fingerprint(self) -> str:
        """Returns what the tokens it makes depend on; empty if it has not said."""
        return self.details.get("fingerprint", "")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model that has (or had) workers. What is told of the model is the newest worker's word, but the context
    length is the longest of them: jobs go where they fit."""

    name: ModelName
    workers: list[WorkerInfo]
    waiting: int  # jobs in the backlog and in resume
    engine: str = ""
    context_length: int = 0
    fingerprint: str = ""
    capabilities: tuple[str, ...] = ()
    exactness: dict[str, str] = field(default_factory=dict[str, str])  # by kind of request
    defaults: dict[str, float] = field(default_factory=dict[str, float])  # of sampling, where a request is silent
    loaders: tuple[ModelLoader, ...] = ()  # live workers that have not loaded it, but could
    created: int = 0  # seconds since the epoch: when its oldest live worker started
    away: str = ""  # why the server that has its queue could not be asked; empty: it was

    @property
    def live(self) -> int:
        """Returns how many workers serve it now."""
        return sum(worker.alive for worker in self.workers)


async def announce(broker: Broker, model: ModelName, others: Sequence[str] = ()) -> None:
    """Says that a model exists, and by which other names it can be asked for; it is known from then on, also while it
    has no worker."""
    async with redis_errors():
        await cast(Awaitable[int], broker.redis.sadd(keys.MODELS, model))
        if others:
            await cast(Awaitable[int], broker.redis.hset(keys.NAMES, mapping=dict.fromkeys(others, model)))


async def other_names(broker: Broker) -> dict[str, ModelName]:
    """Returns the names that stand for a model of another name. One that the workers which are left do not announce is
    none, nor is that of a model itself, unless only the other has live workers."""
    async with redis_errors():
        names = await cast(Awaitable[dict[str, ModelName]], broker.redis.hgetall(keys.NAMES))
    if not names:
        return {}
    listed = await model_names(broker)
    asked = {*names.values(), *(ModelName(name) for name in names)}.intersection(listed)
    infos, away = await look_at_each(broker, asked, partial(model_info, broker))
    infos |= {model: ModelInfo(model, [], 0) for model in away}  # their names go on to mean them
    return {name: model for name, model in names.items() if _stands_for(name, model, infos)}


def _stands_for(name: str, model: ModelName, infos: Mapping[ModelName, ModelInfo]) -> bool:
    """Tells whether a name that was announced for the model still means it; what is not in `infos` was forgotten."""
    if model not in infos:
        return False
    alive = [worker for worker in infos[model].workers if worker.alive]
    own = infos.get(ModelName(name))
    if own is not None and (own.live or not alive):
        return False
    return not alive or any(worker.announces(name) for worker in alive)


async def model_names(broker: Broker) -> list[ModelName]:
    """Returns all models that have (had) workers, sorted."""
    async with redis_errors():
        names = await cast(Awaitable[set[str]], broker.redis.smembers(keys.MODELS))
    return [ModelName(name) for name in sorted(names)]


async def other_names_of(broker: Broker, model: ModelName) -> list[str]:
    """Returns the other names that were announced for a model."""
    async with redis_errors():
        names = await cast(Awaitable[dict[str, str]], broker.redis.hgetall(keys.NAMES))
    return [name for name, meant in names.items() if meant == model]


async def forget_model(broker: Broker, model: ModelName) -> None:
    """Unlists a model, with its other names and its policy. A worker that serves it brings it back."""
    own = await other_names_of(broker, model)
    async with redis_errors():
        if own:
            await cast(Awaitable[int], broker.redis.hdel(keys.NAMES, *own))
        await cast(Awaitable[int], broker.redis.srem(keys.MODELS, model))
        await cast(
            Awaitable[int], broker.of(model).redis.delete(keys.policy(model), keys.server(model), keys.tally(model))
        )


async def census(broker: Broker) -> list[ModelInfo]:
    """Returns every known model with its workers, as Redis has it now. One whose server is away has none and says
    why. Raises `RedisAway` if home is away."""
    names = await model_names(broker)
    seen, away = await look_at_each(broker, names, partial(model_info, broker))
    return [seen[name] if name in seen else ModelInfo(name, [], 0, away=away[name].message) for name in names]


async def model_info(broker: Broker, model: ModelName) -> ModelInfo:
    """Returns one model with its workers and its queue."""
    now, waiting, leases, loads = await _vitals(broker, model)
    beats = await _heartbeats(broker, model, list(leases))
    workers = [
        _worker_info(model, WorkerId(id), beat, alive=leases[id] > now, load=int(loads.get(id, 0)))
        for id, beat in zip(leases, beats, strict=True)
    ]
    alive = [worker for worker in workers if worker.alive]
    newest = max(alive or workers, key=lambda worker: worker.started, default=None)
    card = newest.details if newest else {}
    return ModelInfo(
        name=model,
        workers=workers,
        waiting=int(waiting or 0),
        engine=card.get("engine", ""),
        context_length=max((worker.context_length for worker in alive or workers), default=0),
        fingerprint=card.get("fingerprint", ""),
        capabilities=tuple(card.get("capabilities", "").split()),
        exactness=dict(pair.split("=", 1) for pair in card.get("exactness", "").split()),
        defaults=_defaults(card.get("defaults", "")),
        loaders=await loaders_of(broker, model, now),
        created=min((worker.started for worker in alive), default=0),
    )


def _defaults(told: str) -> dict[str, float]:
    try:
        return msgspec.json.decode(told or "{}", type=dict[str, float])
    except msgspec.MsgspecError:
        return {}  # a heartbeat of another version


async def _vitals(broker: Broker, model: ModelName) -> tuple[float, str | None, dict[str, float], dict[str, float]]:
    """Returns Redis time (ms), jobs waiting, leases and loads by worker, all of one moment."""
    now, waiting, leases, loads = await broker.run(VITALS, model, NoArguments())
    return float(now), waiting, _scores(leases), _scores(loads)


def _scores(flat: list[str]) -> dict[str, float]:
    return {name: float(score) for name, score in zip(flat[::2], flat[1::2], strict=True)}


async def _heartbeats(broker: Broker, model: ModelName, ids: list[str]) -> list[dict[str, str]]:
    async with redis_errors():
        pipe = broker.of(model).redis.pipeline(transaction=False)
        for id in ids:
            pipe.hgetall(keys.worker(model, WorkerId(id)))
        return await pipe.execute() if ids else []


def _worker_info(model: ModelName, id: WorkerId, beat: dict[str, str], *, alive: bool, load: int) -> WorkerInfo:
    """Returns what a heartbeat tells. One that cannot be read costs its worker, which counts as dead, and no other."""
    try:
        numbers = int(beat.get("slots", 0)), float(beat.get("speed", 0))
        info = WorkerInfo(id, model, alive and bool(beat), load, *numbers, beat)
        _ = info.started, info.context_length, info.announces("")
    except (ValueError, msgspec.MsgspecError):
        return WorkerInfo(id, model, alive=False, load=load, slots=0, speed=0.0)
    return info
