# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Models that are loaded and unloaded while the cluster runs: what an operator requests, and who is loading what."""

import secrets
from collections.abc import Awaitable
from typing import Any, Literal, cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.job import ModelName, WorkerId

LoadVerb = Literal["load", "unload"]
REQUEST_MS = 60_000  # a request nobody could fulfil by then is forgotten
LOADING_MS = 10_000  # how long a worker that says nothing more counts as loading


async def request_load(broker: Broker, model: ModelName, verb: LoadVerb) -> None:
    """Ask the workers that have this model to load it (one does) or to unload it (all do)."""
    async with redis_errors():
        stamp = f"{verb} {secrets.token_hex(4)}"  # so that the same request twice is two requests
        await cast(Awaitable[Any], broker.redis.set(keys.load_request(model), stamp, px=REQUEST_MS))


async def load_request_of(broker: Broker, model: ModelName) -> str:
    """Returns the request as it was made (`load …` or `unload …`), empty if there is none."""
    async with redis_errors():
        return await cast(Awaitable[str | None], broker.redis.get(keys.load_request(model))) or ""


async def begin_loading(broker: Broker, model: ModelName, worker: WorkerId) -> bool:
    """Tells whether this worker may load the model: one does at a time."""
    async with redis_errors():
        taken = broker.redis.set(keys.loading(model), f"{worker} beginning", nx=True, px=LOADING_MS)
        return bool(await cast(Awaitable[Any], taken))


async def tell_loading(broker: Broker, model: ModelName, worker: WorkerId, stage: str) -> None:
    """Say how far it is; to be repeated before `LOADING_MS` is over."""
    async with redis_errors():
        await cast(Awaitable[Any], broker.redis.set(keys.loading(model), f"{worker} {stage}", px=LOADING_MS))


async def end_loading(broker: Broker, model: ModelName, *, fulfilled: bool) -> None:
    """Lets another worker load the model now; if this one could not, the request stays for it."""
    done = [keys.loading(model), keys.load_request(model)] if fulfilled else [keys.loading(model)]
    async with redis_errors():
        await cast(Awaitable[int], broker.redis.delete(*done))


async def loading_stage(broker: Broker, model: ModelName) -> str:
    """Returns the stage at which a worker that loads the model is, empty if none loads it."""
    async with redis_errors():
        told = await cast(Awaitable[str | None], broker.redis.get(keys.loading(model)))
    return (told or "").partition(" ")[2]
