# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Models that are loaded and unloaded while the cluster runs: what an operator requests, and who is loading what."""

import secrets
from collections.abc import Awaitable
from typing import Any, Literal, cast

import msgspec

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.job import ModelName, WorkerId

OFFER_MS = 10_000  # how long a worker that says nothing more counts as one that could load a model

LoadVerb = Literal["load", "unload"]
REQUEST_MS = 60_000  # a request nobody could fulfil by then is forgotten
LOADING_MS = 10_000  # how long a worker that says nothing more counts as loading


async def request_load(broker: Broker, model: ModelName, verb: LoadVerb) -> None:
    """Asks the workers that have this model to load it (one does) or to unload it (all do)."""
    async with redis_errors():
        stamp = f"{verb} {secrets.token_hex(4)}"  # so that the same request twice is two requests
        await cast(Awaitable[Any], broker.of(model).redis.set(keys.load_request(model), stamp, px=REQUEST_MS))


async def load_request_of(broker: Broker, model: ModelName) -> str:
    """Returns the request as it was made (`load …` or `unload …`), empty if there is none."""
    async with redis_errors():
        return await cast(Awaitable[str | None], broker.of(model).redis.get(keys.load_request(model))) or ""


class ModelLoader(msgspec.Struct, frozen=True):
    """A live worker process that could load a model."""

    worker: WorkerId
    host: str
    pid: int


async def offer(broker: Broker, model: ModelName, loader: ModelLoader, *, gone: bool = False) -> None:
    """Says that a worker could load the model, or (`gone`) can no more; to be repeated before `OFFER_MS` is over."""
    key, member = keys.loaders(model), msgspec.json.encode(loader).decode()
    async with redis_errors():
        if gone:
            await cast(Awaitable[int], broker.of(model).redis.zrem(key, member))
            return
        seconds, micros = await broker.of(model).redis.time()
        pipe = broker.of(model).redis.pipeline(transaction=False)
        pipe.zremrangebyscore(key, "-inf", seconds * 1000)
        pipe.zadd(key, {member: seconds * 1000 + micros // 1000 + OFFER_MS})
        pipe.pexpire(key, OFFER_MS)
        await pipe.execute()


async def loaders_of(broker: Broker, model: ModelName, now_ms: float) -> tuple[ModelLoader, ...]:
    """Returns the workers that could load the model, as of that moment of the server's clock."""
    async with redis_errors():
        told = await cast(
            Awaitable[list[str]], broker.of(model).redis.zrangebyscore(keys.loaders(model), f"({now_ms}", "+inf")
        )
    return tuple(msgspec.json.decode(each, type=ModelLoader) for each in told)


async def begin_loading(broker: Broker, model: ModelName, worker: WorkerId) -> bool:
    """Tells whether this worker may load the model: one does at a time."""
    async with redis_errors():
        taken = broker.of(model).redis.set(keys.loading(model), f"{worker} beginning", nx=True, px=LOADING_MS)
        return bool(await cast(Awaitable[Any], taken))


async def tell_loading(broker: Broker, model: ModelName, worker: WorkerId, stage: str) -> None:
    """Says how far it is; to be repeated before `LOADING_MS` is over."""
    async with redis_errors():
        await cast(Awaitable[Any], broker.of(model).redis.set(keys.loading(model), f"{worker} {stage}", px=LOADING_MS))


async def end_loading(broker: Broker, model: ModelName, *, fulfilled: bool) -> None:
    """Lets another worker load the model now; if this one could not, the request stays for it."""
    done = [keys.loading(model), keys.load_request(model)] if fulfilled else [keys.loading(model)]
    async with redis_errors():
        await cast(Awaitable[int], broker.of(model).redis.delete(*done))


async def loading_stage(broker: Broker, model: ModelName) -> str:
    """Returns the stage at which a worker that loads the model is, empty if none loads it."""
    async with redis_errors():
        told = await cast(Awaitable[str | None], broker.of(model).redis.get(keys.loading(model)))
    return (told or "").partition(" ")[2]
