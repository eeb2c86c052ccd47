# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Connections to Redis or Valkey, and the scripts every transition of a job is.

All that Redis can throw at us becomes `Unavailable` here; nobody outside `common.broker` sees redis-py.
"""

import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal, Self, cast

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from millstream.common.broker import keys
from millstream.common.broker.connection.cluster import ClusterClient, ClusterPipeline
from millstream.common.broker.connection.model_servers import ModelServers
from millstream.common.broker.connection.pipeline import ScriptPipeline
from millstream.common.broker.connection.url import RedisAddress, parse
from millstream.common.broker.scripts.script import Head, Item, Script
from millstream.common.errors import MillstreamError, Unavailable
from millstream.common.job import ModelName
from millstream.common.process.cancellation import cancellation_wins

COMMAND_TIMEOUT = 5.0  # seconds until a silent connection counts as dead; redis-py itself would wait for ever
CONNECT_TIMEOUT = 2.0
KNOWN_PLACES = 1024  # models whose server is remembered
CONNECTIONS = 64  # of one process, for what is no script; more only queue up inside the single-threaded server


RedisCause = Literal[
    "away",
    "clients",  # more than it takes
    "command",  # one that it does not carry out
    "memory",
    "not_ready",
    "one_node",  # of a cluster, addressed as a single server
    "password",
    "permissions",
    "protected",  # open to its own machine only
    "unknown_host",
]
"""What keeps Redis from doing what it is asked."""

AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.WatchError,  # what a connection that broke between WATCH and EXEC becomes (arq watches keys)
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.NoPermissionError,  # an operator's mistake, to be mended
    exceptions.RedisClusterException,  # no node of the cluster answers
    OSError,
)
NOT_READY = (  # the server's words for "not now": it loads, has no master, changes its role, is busy with a slow script
    *("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "UNBLOCKED"),
    "BUSY ",  # with the space: BUSYGROUP is something else
)
FORBIDDEN = ("NOPERM", "ACL failure", "can't run this command")  # the latter two from inside a script
TOO_MANY = "max number of clients"
ELSEWHERE = ("MOVED ", "ASK ", "CROSSSLOT")
NEEDED = "Its user needs the keys ms:* and arq:*, the channels ms:*, and the commands in docs/operations.md, also INFO."
CLOSED_HANDLE = "the handler is closed"  # what uvloop says, as no OSError, when the server left before the first word


class RedisTrouble(Unavailable):
    """Redis does not do what it is asked. `cause` says what an operator can mend."""

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None, cause: RedisCause = "away"
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.cause: RedisCause = cause


class RedisAway(RedisTrouble):
    """Redis cannot be reached, is loading or has no writable master: worth trying again."""


class RedisFull(RedisAway):
    """Redis is out of memory: what is there goes on to be waited for, nothing new is let in."""


class RedisRefused(RedisTrouble):
    """Redis answered with an error (a key of another type, say): trying again at once will not help."""


class _MasterClient(Redis):
    """Closes its connections to the Sentinels too, which redis-py leaves open."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        for sentinel in cast(SentinelConnectionPool, self.connection_pool).sentinel_manager.sentinels:
            await sentinel.aclose()


def _sentinel(place: RedisAddress, options: dict[str, Any]) -> Redis:
    own = {name.removeprefix("sentinel_"): options.pop(name) for name in list(options) if name.startswith("sentinel_")}
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinel = Sentinel(place.hosts, sentinel_kwargs={"socket_timeout": CONNECT_TIMEOUT, **tls, **own})
    return sentinel.master_for(place.service, redis_class=_MasterClient, **options)


def open_client(url: str, *, text: bool = True, timeout: float | None = COMMAND_TIMEOUT) -> Redis:
    """Returns a client for any URL of `url.py`; it connects at its first command. `text`: replies as str, else
    bytes."""
    place = parse(url)
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        **({} if "path" in place.options else {"socket_keepalive": True}),  # a Unix socket takes no such option
        **place.options,
        "decode_responses": text,
    }
    match place.kind:
        case "sentinel":
            return _sentinel(place, options)
        case "cluster":
            client = ClusterClient(place.hosts, **options)  # pyright: ignore[reportAbstractUsage] (its stub)
            return cast(Redis, client)  # another class, with all the commands used here
        case "server":
            options = {"max_connections": CONNECTIONS, "timeout": 20, **options}
            return Redis.from_pool(BlockingConnectionPool(**options))


def open_pipeline(client: Redis) -> ScriptPipeline | ClusterPipeline:
    """Calls to the client's server past its pool; to be closed before the client."""
    if isinstance(client, ClusterClient):
        return ClusterPipeline(client)
    return ScriptPipeline(cast(Callable[[], AbstractConnection], client.connection_pool.make_connection))


def open_listener(url: str) -> Redis:
    """Returns a client to subscribe with, its replies bytes. In a cluster every node hears every message, so any one
    will do; after a failure another is tried, because the caller opens a new listener each time."""
    place = parse(url)
    if place.kind != "cluster":
        return open_client(url, text=False)
    host, port = random.choice(place.hosts)
    options: dict[str, Any] = {"socket_timeout": COMMAND_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    options |= {**place.options, "host": host, "port": port, "decode_responses": False}
    return Redis(**options)


def is_cluster(url: str) -> bool:
    """Tells whether keys lie in several servers, which some libraries cannot use."""
    return parse(url).kind == "cluster"


class redis_errors(cancellation_wins):
    """Turns redis-py's exceptions into ours, and keeps the cancellations that redis-py forgets."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
        if error is not None and (ours := _ours(error)):
            raise ours from error


def _ours(error: BaseException) -> MillstreamError | None:
    """Returns our error for one of Redis; None for what is not Redis' fault."""
    match error:
        case exceptions.OutOfMemoryError():
            return _full()
        case RuntimeError() if CLOSED_HANDLE in str(error):
            return RedisAway("The queue (Redis) cannot be reached: connection closed.", retry_after=1)
        case exceptions.NoPermissionError():
            return _forbidden(str(error))
        case exceptions.AuthenticationError():
            return RedisAway(f"The queue (Redis) refuses the password: {error}", retry_after=1, cause="password")
        case _ if isinstance(error, AWAY):
            return RedisAway(f"The queue (Redis) cannot be reached: {error}", retry_after=1, cause=_cause(error))
        case exceptions.ResponseError():
            return _refusal(error)
        case _:
            return None


def _cause(error: BaseException) -> RedisCause:
    """Returns why Redis is away: by the kind of the error, where it has one, else by the server's own words."""
    text = str(error)
    if isinstance(error.__context__, socket.gaierror):
        return "unknown_host"
    if isinstance(error, exceptions.BusyLoadingError | exceptions.ReadOnlyError | exceptions.ClusterDownError):
        return "not_ready"
    return "clients" if TOO_MANY in text else "away"


def _full() -> RedisFull:
    return RedisFull("The queue (Redis) is out of memory.", retry_after=5, cause="memory")


def _refusal(error: exceptions.ResponseError) -> MillstreamError:
    """Returns our error for a refusal. A script wraps the server's own errors, so their kind is only in the text."""
    text = str(error)
    if "OOM" in text:
        return _full()
    if any(word in text for word in FORBIDDEN):
        return _forbidden(text)
    if text.startswith(ELSEWHERE):
        return RedisRefused(
            f"The queue (Redis) is one node of a cluster: write its address as redis+cluster://. It said: {text}",
            retry_after=5,
            cause="one_node",
        )
    if any(word in text for word in NOT_READY):
        return RedisAway(f"The queue (Redis) is not ready: {text}", retry_after=1, cause="not_ready")
    cause: RedisCause = "protected" if "DENIED" in text else "clients" if TOO_MANY in text else "command"
    return RedisRefused(f"The queue (Redis) refused a command: {text}", retry_after=5, cause=cause)


def _forbidden(text: str) -> RedisAway:
    """Returns our error for an operator's mistake, which can be mended while we wait."""
    message = f"The queue (Redis) forbids a command: {text.rstrip('.')}. {NEEDED}"
    return RedisAway(message, retry_after=5, cause="permissions")


class Broker:
    """One process's way to Redis. Use as `async with Broker(url) as broker`. `timeout` is how many seconds a command
    may stay unanswered: a worker's must be well below its lease, or one silent connection costs it the lease.

    `url` is home, which has what belongs to no model. `model_redis` says which models have a server of their own:
    whoever touches a model's keys asks `broker.of(model)`."""

    def __init__(self, url: str, timeout: float = COMMAND_TIMEOUT, *, model_redis: str = "") -> None:
        self.url = url
        self.redis = open_client(url, timeout=timeout)
        self._line = open_pipeline(self.redis)
        places = ModelServers(url, model_redis)
        self._others = {other: Broker(other, timeout) for other in places.others}
        self.silent_until = 0.0  # on the loop's clock: until then `by_server` does not wait for this server again
        self._place = lru_cache(maxsize=KNOWN_PLACES)(places.url_of)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ):
        await self.aclose()

    async def aclose(self) -> None:
        for other in self._others.values():
            await other.aclose()
        await self._line.aclose()
        await self.redis.aclose()

    @property
    def servers(self) -> Sequence["Broker"]:
        """Returns the ways to all servers, home first."""
        return (self, *self._others.values())

    def of(self, model: ModelName) -> "Broker":
        """Returns the way to the server that has a model's queue."""
        return self._others.get(self._place(model), self) if self._others else self

    async def run(self, script: Script[Head, Item], model: ModelName, head: Head, items: Iterable[Item] = ()) -> Any:
        """Runs a script on a model's keys. Raises `RedisAway` or `RedisRefused`; a call whose reply was lost may be
        repeated, every script is idempotent."""
        return await self.of(model).run_on(script, keys.prefix(model), head, items)

    async def run_on(self, script: Script[Head, Item], prefix: str, head: Head, items: Iterable[Item] = ()) -> Any:
        """Runs a script on this server's keys that begin with `prefix`. Raises and repeats as `run` does."""
        args = script.arguments(head, items)
        async with redis_errors():
            try:
                return await self._line.call(prefix, "EVALSHA", script.sha, 1, prefix, *args)
            except exceptions.NoScriptError:  # the server is new, or restarted: its cache is empty
                return await self._line.call(prefix, "EVAL", script.text, 1, prefix, *args)

    async def ping(self) -> None:
        """Raises `RedisAway` if Redis does not answer."""
        async with redis_errors():
            await cast(Awaitable[bool], self.redis.ping())
