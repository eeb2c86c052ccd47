# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Connections to Redis or Valkey, and the scripts every transition of a job is.

All that Redis can throw at us becomes `Unavailable` here; nobody outside `common.broker` sees redis-py.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from types import TracebackType
from typing import Any, Self, cast

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from common.broker import keys
from common.errors import MillstreamError, Unavailable
from common.job import ModelName

COMMAND_TIMEOUT = 5.0  # seconds until a silent connection counts as dead; redis-py itself would wait for ever
CONNECT_TIMEOUT = 2.0
CONNECTIONS = 64  # of one process, shared by all its requests; more only queue up inside the single-threaded server


AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.WatchError,  # what a connection that broke between WATCH and EXEC becomes (arq watches keys)
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.RedisClusterException,  # no node of the cluster answers
    OSError,
)
CLOSED_HANDLE = "the handler is closed"  # what uvloop says, as no OSError, when the server left before the first word

Arg = Any  # what redis-py encodes: str, bytes, int or float; its own annotation says str only


class RedisAway(Unavailable):
    """Redis cannot be reached, is loading or has no writable master: worth trying again."""


class RedisFull(RedisAway):
    """Redis is out of memory: what is there goes on to be waited for, nothing new is let in."""


class RedisRefused(Unavailable):
    """Redis answered with an error (out of memory, wrong permissions): trying again at once will not help."""


@cache
def script_text(name: str) -> str:
    """A script as it is loaded: the shared prelude, what its lines `-- with NAME` ask for, then its own body."""
    folder = resources.files("common.broker") / "scripts"
    body = (folder / f"{name}.lua").read_text()
    shared = [folder / "shared" / f"{each}.lua" for each in re.findall(r"^-- with (\w+)$", body, re.MULTILINE)]
    return "\n".join([(folder / "prelude.lua").read_text(), *(each.read_text() for each in shared), body])


@cache
def script_sha(name: str) -> str:
    return hashlib.sha1(script_text(name).encode(), usedforsecurity=False).hexdigest()


SENTINEL, CLUSTER = "redis+sentinel://", "redis+cluster://"


def _addresses(text: str) -> list[tuple[str, int]]:
    """`host:port,host:port` as pairs; a missing port is Redis's own."""
    pairs = (part.partition(":") for part in text.split(","))
    return [(host, int(port or 6379)) for host, _, port in pairs]


def _credentials(rest: str) -> tuple[dict[str, str | None], str]:
    """`user:password@hosts/...` taken apart."""
    login, at, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    return ({"username": user or None, "password": password or None} if at else {}), place


class _MasterClient(Redis):
    """Closes its connections to the Sentinels too, which redis-py leaves open."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        for sentinel in cast(SentinelConnectionPool, self.connection_pool).sentinel_manager.sentinels:
            await sentinel.aclose()


def _sentinel(url: str, **options: Any) -> Redis:
    login, place = _credentials(url.removeprefix(SENTINEL))
    hosts, _, service = place.partition("/")
    sentinel = Sentinel(_addresses(hosts), socket_timeout=CONNECT_TIMEOUT)
    return sentinel.master_for(service or "mymaster", redis_class=_MasterClient, **login, **options)


def _cluster(url: str, **options: Any) -> Redis:
    """A cluster's client has all the commands used here; the annotation leaves out that it is another class."""
    login, place = _credentials(url.removeprefix(CLUSTER))
    nodes = [ClusterNode(host, port) for host, port in _addresses(place.rstrip("/"))]
    client = RedisCluster(startup_nodes=nodes, **login, **options)  # pyright: ignore[reportAbstractUsage] (its stub)
    return cast(Redis, client)


def open_client(url: str, *, text: bool = True, timeout: float | None = COMMAND_TIMEOUT) -> Redis:
    """A client for `redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port,host:port/SERVICE` or
    `redis+cluster://host:port,host:port`; it connects at its first command. `text`: replies as str, else bytes."""
    options: dict[str, Any] = {
        "decode_responses": text,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
    }
    if url.startswith(SENTINEL):
        return _sentinel(url, **options)
    if url.startswith(CLUSTER):
        return _cluster(url, **options)
    pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=20, **options)
    return Redis.from_pool(pool)


def open_listener(url: str, *, text: bool = True) -> Redis:
    """A client to subscribe with. In a cluster every node hears every message, so any one will do; after a failure
    another is tried, because the caller opens a new listener each time."""
    if not url.startswith(CLUSTER):
        return open_client(url, text=text)
    login, place = _credentials(url.removeprefix(CLUSTER))
    host, port = random.choice(_addresses(place.rstrip("/")))
    options: dict[str, Any] = {"socket_timeout": COMMAND_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    return Redis(host=host, port=port, decode_responses=text, **login, **options)


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
    except AWAY as error:
        raise RedisAway(f"The queue (Redis) cannot be reached: {error}", retry_after=1) from error
    except exceptions.OutOfMemoryError as error:
        raise RedisFull("The queue (Redis) is out of memory.", retry_after=5) from error
    except exceptions.ResponseError as error:
        raise _refusal(error) from error
    except RuntimeError as error:
        if CLOSED_HANDLE not in str(error):
            raise
        raise RedisAway("The queue (Redis) cannot be reached: connection closed.", retry_after=1) from error


def _refusal(error: exceptions.ResponseError) -> MillstreamError:
    """A script wraps the server's own errors, so their kind is only in the text."""
    text = str(error)
    if "OOM" in text:
        return RedisFull("The queue (Redis) is out of memory.", retry_after=5)
    if any(
        word in text
        for word in ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS")
    ):
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
        return await self.run_on(script, keys.prefix(model), *args)

    async def run_on(self, script: str, prefix: str, *args: Arg) -> Any:
        """The same on the keys that begin with `prefix`."""
        async with redis_errors():
            try:
                return await cast(Awaitable[Any], self.redis.evalsha(script_sha(script), 1, prefix, *args))
            except exceptions.NoScriptError:  # the server is new, or restarted: its cache is empty
                return await cast(Awaitable[Any], self.redis.eval(script_text(script), 1, prefix, *args))

    async def ping(self) -> None:
        """Raises `RedisAway` if Redis does not answer."""
        async with redis_errors():
            await cast(Awaitable[bool], self.redis.ping())
