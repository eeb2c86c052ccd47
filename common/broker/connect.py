# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Connections to Redis or Valkey, and the scripts every transition of a job is.

All that Redis can throw at us becomes `Unavailable` here; nobody outside `common.broker` sees redis-py.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from types import TracebackType
from typing import Any, Self, cast

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel

from common.broker import keys
from common.errors import MillstreamError, Unavailable
from common.job import ModelName

COMMAND_TIMEOUT = 5.0  # seconds until a silent connection counts as dead; redis-py itself would wait for ever
CONNECT_TIMEOUT = 2.0
CONNECTIONS = 64  # of one process, shared by all its requests; more only queue up inside the single-threaded server


Arg = Any  # what redis-py encodes: str, bytes, int or float; its own annotation says str only


class RedisAway(Unavailable):
    """Redis cannot be reached, is loading or has no writable master: worth trying again."""


class RedisRefused(Unavailable):
    """Redis answered with an error (out of memory, wrong permissions): trying again at once will not help."""


@cache
def script_text(name: str) -> str:
    """A script as it is loaded: the shared prelude, then its own body."""
    folder = resources.files("common.broker") / "scripts"
    return (folder / "prelude.lua").read_text() + "\n" + (folder / f"{name}.lua").read_text()


@cache
def script_sha(name: str) -> str:
    return hashlib.sha1(script_text(name).encode(), usedforsecurity=False).hexdigest()


def _sentinel(url: str, **options: Any) -> Redis:
    hosts, _, service = url.removeprefix("redis+sentinel://").partition("/")
    nodes = [(host.rpartition(":")[0], int(host.rpartition(":")[2])) for host in hosts.split(",")]
    sentinel = Sentinel(nodes, socket_timeout=CONNECT_TIMEOUT)
    return sentinel.master_for(service or "mymaster", **options)


def open_client(url: str, *, text: bool = True, timeout: float | None = COMMAND_TIMEOUT) -> Redis:
    """A client for `redis://`, `rediss://`, `unix://` or `redis+sentinel://host:port,host:port/SERVICE`; it connects
    at its first command. `text`: replies as str, else bytes."""
    options: dict[str, Any] = {
        "decode_responses": text,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
    }
    if url.startswith("redis+sentinel://"):
        return _sentinel(url, **options)
    pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=20, **options)
    return Redis.from_pool(pool)


@asynccontextmanager
async def redis_errors() -> AsyncGenerator[None]:
    """Turns redis-py's exceptions into ours, and keeps cancellations: redis-py sends with `asyncio.wait_for`, which
    before Python 3.12 forgets a cancellation that comes in the moment its own work is done."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        yield
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, OSError) as error:
        raise RedisAway(f"The queue (Redis) cannot be reached: {error}", retry_after=1) from error
    except exceptions.OutOfMemoryError as error:
        raise RedisRefused("The queue (Redis) is out of memory.", retry_after=5) from error
    except exceptions.ResponseError as error:
        raise _refusal(error) from error


def _refusal(error: exceptions.ResponseError) -> MillstreamError:
    """A script wraps the server's own errors, so their kind is only in the text."""
    text = str(error)
    if any(word in text for word in ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")):
        return RedisAway(f"The queue (Redis) is not ready: {text}", retry_after=1)
    return RedisRefused(f"The queue (Redis) refused a command: {text}", retry_after=5)


class Broker:
    """One process's door to Redis. Use as `async with Broker(url) as broker`. `timeout` is how many seconds a command
    may stay unanswered: a worker's must be well below its lease, or one silent connection costs it the lease."""

    def __init__(self, url: str, timeout: float = COMMAND_TIMEOUT) -> None:
        self.url = url
        self.redis = open_client(url, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ):
        await self.redis.aclose()

    async def run(self, script: str, model: ModelName, *args: Arg) -> Any:
        """Run a script on a model's keys. Raises `RedisAway` or `RedisRefused`; a call whose reply was lost may be
        repeated, every script is idempotent."""
        async with redis_errors():
            prefix = keys.prefix(model)
            try:
                return await cast(Awaitable[Any], self.redis.evalsha(script_sha(script), 1, prefix, *args))
            except exceptions.NoScriptError:  # the server is new, or restarted: its cache is empty
                return await cast(Awaitable[Any], self.redis.eval(script_text(script), 1, prefix, *args))

    async def ping(self) -> None:
        """Raises `RedisAway` if Redis does not answer."""
        async with redis_errors():
            await cast(Awaitable[bool], self.redis.ping())
