# arq publishes no strict types; what comes from it is annotated where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
"""The door to arq: jobs named and counted there, in JSON (a pickle in Redis would be a way in), run under supervision.

arq's own worker ends when Redis restarts; `Runner` then starts another one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import structlog
from arq import ArqRedis, Worker, cron, func

from common.backoff import Backoff
from common.broker.connect import is_cluster, open_client, redis_errors
from common.errors import Unavailable

QUEUE = "arq:millstream"
POLL = 0.1  # seconds between two looks at the queue while a process is idle
LONGEST_JOB = 600.0  # seconds
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
    """Work that is asked for by name, with arguments that are JSON."""

    name: str
    work: Callable[..., Awaitable[None]]


class Runner:
    """Runs tasks and periodic work until it is cancelled. Raises `ValueError` for a cluster."""

    def __init__(self, url: str, tasks: Sequence[Task], periodic: Sequence[Periodic], at_once: int) -> None:
        if is_cluster(url):
            raise ValueError("background_redis_url (MILLSTREAM_BACKGROUND_REDIS_URL) is needed with a Redis Cluster.")
        self._url = url
        self._tasks = tasks
        self._periodic = periodic
        self._at_once = at_once
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
        # No timeout: with one redis-py waits with `asyncio.wait_for`, which may forget that arq's loop was cancelled.
        async with redis_errors(), open_client(self._url, text=False, timeout=None) as client:
            await cast(Awaitable[bool], client.ping())
            self._pool = ArqRedis(
                cast(Any, client.connection_pool),
                job_serializer=msgspec.json.encode,
                job_deserializer=msgspec.json.decode,
                default_queue_name=QUEUE,
            )
            worker = self._worker(self._pool)
            try:
                backoff.reset()
                await worker.async_run()
            finally:
                self._pool = None
                await asyncio.shield(_close(worker))

    def _worker(self, pool: ArqRedis) -> Worker:
        return Worker(
            functions=[func(_called(task.work), name=task.name, max_tries=1000) for task in self._tasks],
            cron_jobs=[_cron(periodic) for periodic in self._periodic],
            redis_pool=pool,
            queue_name=QUEUE,
            handle_signals=False,
            max_jobs=self._at_once,
            job_timeout=LONGEST_JOB,
            keep_result=0,
            poll_delay=POLL,
            job_serializer=msgspec.json.encode,
            job_deserializer=msgspec.json.decode,
        )


async def _close(worker: Worker) -> None:
    """Its jobs are cancelled, and wait for another process."""
    try:
        async with redis_errors():
            await worker.close()
    except Unavailable:
        pass  # what it wanted to tell Redis follows from its silence


def _called(work: Callable[..., Awaitable[None]]) -> Any:
    async def run(context: dict[str, Any], *args: object) -> None:
        await work(*args)

    return run


def _cron(periodic: Periodic) -> Any:
    moments = when(periodic.every)
    return cron(_called(periodic.work), name=periodic.name, unique=True, keep_result=REMEMBERED, max_tries=1, **moments)


def when(every: int) -> dict[str, Any]:
    """The moments of an hour that are `every` seconds (or whole minutes) apart, as arq wants them."""
    if every < 60:
        return {"second": set(range(0, 60, every))}
    return {"minute": set(range(0, 60, every // 60)), "second": 0}
