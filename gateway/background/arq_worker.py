# arq publishes no strict types; what comes from it is annotated where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
"""The door to arq: jobs named and counted there, in JSON (a pickle in Redis would be a way in), run under supervision.

arq's own worker ends when Redis restarts; `ArqRunner` then starts another one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import structlog
from arq import ArqRedis, Retry, Worker, cron, func

from millstream.common.broker.connection.broker import is_cluster, open_client, redis_errors
from millstream.common.errors import MillstreamError, Unavailable
from millstream.common.process.backoff import Backoff

POLL = 0.1  # seconds between two looks at the queue while a process is idle
PUT_OFF = 5.0  # seconds until an insisting task that could not be done is tried again
REMEMBERED_JOB = 7 * 86400  # seconds a job waits for a process to be there at all
JSON: Any = {"job_serializer": msgspec.json.encode, "job_deserializer": msgspec.json.decode}
INSIST = 0.2  # seconds until arq's loop is told again to end
REMEMBERED = 60  # seconds a periodic job's result is kept, so that no second process runs it again
log = structlog.stdlib.get_logger(part="background")


@dataclass(frozen=True, slots=True)
class Periodic:
    """Work done by one of the processes every `every` seconds (a divisor of 60, or so many whole minutes)."""

    name: str
    every: int
    work: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Task:
    """Work that is asked for by name, with arguments that are JSON. `insist`: nobody asks again for what could not be
    done, so it tries again itself."""

    name: str
    work: Callable[..., Awaitable[None]]
    insist: bool = False


@dataclass(frozen=True, slots=True)
class ArqQueue:
    """Work of one kind, which waits for nothing but its like. `at_once` jobs run in one process, `longest` seconds
    each; one whose process was killed runs again ten seconds after that."""

    name: str
    at_once: int
    longest: float
    tasks: Sequence[Task]
    periodic: Sequence[Periodic] = ()


class ArqRunner:
    """Runs a queue's tasks and periodic work until it is cancelled. Raises `ValueError` for a Redis Cluster, and for a
    URL that is none."""

    def __init__(self, url: str, queue: ArqQueue) -> None:
        if is_cluster(url):
            raise ValueError("background_redis_url (MILLSTREAM_BACKGROUND_REDIS_URL) is needed with a Redis Cluster.")
        self._url = url
        self._queue = queue
        self._pool: ArqRedis | None = None
        logging.getLogger("arq").setLevel(logging.WARNING)  # it would tell of every look at the queue

    async def ask(self, name: str, *args: object, id: str, wait: float = 0.0) -> None:
        """Has a task done, by whichever process comes first, `wait` seconds from now; one with that id that is waiting
        or running already is enough. Raises `Unavailable`."""
        if self._pool is None:
            raise Unavailable("The queue of background jobs is not there yet.")
        async with redis_errors():
            await self._pool.enqueue_job(name, *args, _job_id=id, _defer_by=wait or None)

    async def run(self) -> None:
        """For ever; a Redis that is away is waited for."""
        backoff = Backoff(most=2.0)
        while True:
            try:
                await self._run_once(backoff)
            except Unavailable as error:
                log.warning("background_waits_for_redis", error=error.message)
            await backoff.sleep()

    async def _run_once(self, backoff: Backoff) -> None:
        client = open_client(self._url, text=False)
        async with redis_errors(), aclosing(client):
            pool = ArqRedis(cast(Any, client.connection_pool), **JSON, default_queue_name=self._queue.name)
            pool.expires_extra_ms = REMEMBERED_JOB * 1000
            await cast(Awaitable[bool], pool.ping())
            worker = self._worker(pool)
            self._pool = pool
            try:
                backoff.reset()
                await _to_its_end(worker.async_run())
            finally:
                self._pool = None
                await asyncio.shield(_close(worker))

    def _worker(self, pool: ArqRedis) -> Worker:
        return Worker(
            functions=[func(_called(task), name=task.name, max_tries=1000) for task in self._queue.tasks],
            cron_jobs=[_cron(periodic) for periodic in self._queue.periodic],
            redis_pool=pool,
            queue_name=self._queue.name,
            handle_signals=False,
            max_jobs=self._queue.at_once,
            job_timeout=self._queue.longest,
            keep_result=0,
            poll_delay=POLL,
            **JSON,
        )


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """The work's result. Cancelled, it insists: in arq's loop nothing brings back a cancellation that redis-py forgot,
    as `redis_errors` does in ours."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({working})
    finally:
        while not working.done():
            working.cancel()
            await asyncio.wait({working}, timeout=INSIST)
    working.result()


async def _close(worker: Worker) -> None:
    """Its jobs are cancelled, and wait for another process."""
    try:
        async with redis_errors():
            await worker.close()
    except Unavailable:
        pass  # what it wanted to tell Redis follows from its silence


def _called(work: Task | Periodic) -> Any:
    """What Redis or the storage cannot do now is put off."""

    async def run(context: dict[str, Any], *args: object) -> None:
        again = False
        try:
            await work.work(*args)
        except* MillstreamError as errors:
            again = isinstance(work, Task) and work.insist
            log.warning("put_off", work=work.name, errors=[str(error) for error in _leaves(errors)])
        if again:
            raise Retry(defer=PUT_OFF)

    return run


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast(BaseExceptionGroup[BaseException], error)
    return [leaf for each in group.exceptions for leaf in _leaves(each)]


def _cron(periodic: Periodic) -> Any:
    moments = when(periodic.every)
    return cron(_called(periodic), name=periodic.name, unique=True, keep_result=REMEMBERED, max_tries=1, **moments)


def when(every: int) -> dict[str, Any]:
    """The moments of an hour that are `every` seconds (or whole minutes) apart, as arq wants them."""
    if every < 60:
        return {"second": set(range(0, 60, every))}
    return {"minute": set(range(0, 60, every // 60)), "second": 0}
