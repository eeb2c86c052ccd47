# arq publishes no strict types; what comes from it is annotated where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
"""The one module that knows arq: jobs named and counted there, in JSON (a pickle in Redis would let others run code),
run under supervision.

arq's own worker ends when Redis restarts; `ArqRunner` then starts another one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import structlog
from arq import ArqRedis, Retry, Worker, cron, func

from millstream.common.broker.connection.broker import is_cluster, open_client, redis_errors
from millstream.common.errors import MillstreamError, Unavailable
from millstream.common.process.backoff import Backoff
from millstream.common.process.tasks import leaves
from millstream.gateway.background.health import sign_of_life

SIGN_EVERY = 10  # seconds between two signs of life; the key that is one lives a second longer
POLL = 0.1  # seconds between two looks at the queue while a process is idle
RETRY_AFTER = 5.0  # seconds until an insisting task that could not be done is tried again
JOB_EXPIRY = 7 * 86400  # seconds a job waits for a process to be there at all
JSON: Any = {"job_serializer": msgspec.json.encode, "job_deserializer": msgspec.json.decode}
CANCEL_AGAIN = 0.2  # seconds until arq's loop is told again to end
END_WAIT = 1.0  # seconds until its jobs are; and for what it has to tell Redis
RESULT_KEPT = 60  # seconds a periodic job's result is kept, so that no second process runs it again
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
        self._away = False
        logging.getLogger("arq").setLevel(logging.WARNING)  # it would tell of every look at the queue

    async def ask(self, name: str, *args: object, id: str, wait: float = 0.0) -> None:
        """Has a task done, by whichever process comes first, `wait` seconds from now; one with that id that is waiting
        or running already is enough. Raises `Unavailable`."""
        if self._pool is None:
            raise Unavailable("The queue of background jobs is not there yet.")
        async with redis_errors():
            await self._pool.enqueue_job(name, *args, _job_id=id, _defer_by=wait or None)

    async def run(self) -> None:
        """Runs for ever, and waits for a Redis that is away."""
        backoff = Backoff(most=2.0)
        while True:
            try:
                await self._run_once(backoff)
            except Unavailable as error:
                if not self._away:  # said once, until a connection stands again
                    log.warning("waiting_for_redis", queue=self._queue.name, error=error.message)
                self._away = True
            await backoff.sleep()

    async def _run_once(self, backoff: Backoff) -> None:
        client = open_client(self._url, text=False)
        async with redis_errors(), aclosing(client):
            pool = ArqRedis(cast(Any, client.connection_pool), **JSON, default_queue_name=self._queue.name)
            pool.expires_extra_ms = JOB_EXPIRY * 1000
            await cast(Awaitable[bool], pool.ping())
            worker = self._worker(pool)
            self._pool = pool
            try:
                backoff.reset()
                self._away = False
                await _to_its_end(worker)
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
            health_check_interval=SIGN_EVERY,
            health_check_key=sign_of_life(self._queue.name),
            **JSON,
        )


async def _to_its_end(worker: Worker) -> None:
    """Waits until arq's loop ends. Cancelled, it cancels the loop again and again: in arq's loop nothing brings back a
    cancellation that redis-py forgot, as `redis_errors` does in ours. A job that was cancelled ends the whole loop as
    cancelled, which is no cancellation of ours: raises `Unavailable`, and what arq raises."""
    working = asyncio.create_task(worker.async_run())
    try:
        await asyncio.wait({working})
    finally:
        while not working.done():
            working.cancel()
            await asyncio.wait({working}, timeout=CANCEL_AGAIN)
        error = None if working.cancelled() else working.exception()  # asked for in any case: else it would be logged
    if working.cancelled():
        raise Unavailable("arq's loop was cancelled, and nobody had asked for it.")
    if error:
        raise error


async def _close(worker: Worker) -> None:
    """Closes the worker: its jobs are cancelled, and wait for another process. What arq wanted to tell a Redis that is
    away follows from its silence."""
    await _end_jobs(worker)
    try:
        async with asyncio.timeout(END_WAIT), redis_errors():
            await worker.close()
    except (Unavailable, TimeoutError) as error:
        log.debug("left_without_farewell", error=str(error))


async def _end_jobs(worker: Worker) -> None:
    """arq cancels each once and looks at one failure; the others would each be a traceback in the log."""
    jobs = dict(worker.tasks)
    pending = set(jobs.values())
    for job in pending:
        job.cancel()
    while pending:
        _, pending = await asyncio.wait(pending, timeout=END_WAIT)
        for id, job in jobs.items():
            if job in pending:  # our work, or else arq, which wants to tell Redis
                worker.job_tasks.get(id, job).cancel()
    for id, job in jobs.items():
        if not job.cancelled() and (error := job.exception()):
            log.debug("job_ended_untold", job=id, error=str(error))
    worker.tasks.clear()


def _called(work: Task | Periodic) -> Any:
    """Returns the work as arq calls it: a task that Redis or the storage cannot do now is tried again later."""

    async def run(context: dict[str, Any], *args: object) -> None:
        again = False
        try:
            await work.work(*args)
        except* MillstreamError as errors:
            again = isinstance(work, Task) and work.insist
            log.warning("task_postponed", work=work.name, errors=[str(error) for error in leaves(errors)])
        if again:
            raise Retry(defer=RETRY_AFTER)

    return run


def _cron(periodic: Periodic) -> Any:
    moments = when(periodic.every)
    return cron(_called(periodic), name=periodic.name, unique=True, keep_result=RESULT_KEPT, max_tries=1, **moments)


def when(every: int) -> dict[str, Any]:
    """Returns the moments of an hour that are `every` seconds (or whole minutes) apart, as arq wants them."""
    if every < 60:
        return {"second": set(range(0, 60, every))}
    return {"minute": set(range(0, 60, every // 60)), "second": 0}
