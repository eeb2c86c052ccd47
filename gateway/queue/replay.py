"""Streams read from their jobs' chunk logs: the place found in Redis, holes filled, what Redis lost put back."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

import structlog

from millstream.common.broker import jobs
from millstream.common.broker.chunks import PAGE, read_log
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.retry import retry_while_away
from millstream.common.chunk import NOTHING_YET, Seq, decode_chunk
from millstream.common.errors import Expired, LogExpired, MillstreamError, NotFound, StreamLost
from millstream.common.job import GatewayId, JobId, ModelName
from millstream.common.process.backoff import Backoff
from millstream.common.request_id import request_of
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.job_stream import JobStream
from millstream.gateway.queue.sink import ChunkSink, LoggedChunk

LOOK_PATIENCE = 30.0  # seconds a look waits for a Redis that restarts or fails over; proxies cut a silence after 60

log = structlog.stdlib.get_logger(part="dispatch")


JobsEnded = Callable[[ModelName, Sequence[JobId]], None]


def ignore_ended(model: ModelName, ids: Sequence[JobId]) -> None:
    """Does nothing: a `JobsEnded` for those who need none."""


class LogReader:
    """The reading half of a `QueueClient`; the frame hub brings the news."""

    def __init__(
        self,
        broker: Broker,
        gateway: GatewayId,
        hub: FrameHub,
        retention: float = 600.0,
        ended: JobsEnded = ignore_ended,
    ) -> None:
        """`retention`: seconds for which a job is known at least, if no restart of Redis loses it. `ended` is told of
        each job that was followed and failed."""
        self._ended = ended
        self._retention = retention
        self._broker = broker
        self._gateway = gateway
        self._hub = hub

    async def follow(
        self, model: ModelName, job: JobId, sink: ChunkSink, *, tenant: str, after: Seq = NOTHING_YET
    ) -> None:
        job_stream = self._take_up(model, job, tenant, after)
        backoff = Backoff()
        try:
            job_stream.open(sink)
            while not job_stream.done:
                try:
                    await self.catch_up(job_stream)
                except RedisAway:
                    if job_stream.overdue:
                        raise Expired("The queue (Redis) was away until the request's deadline passed.") from None
                    await backoff.sleep()
                    job_stream.show_life()
                else:
                    await job_stream.wait()
        finally:
            self._hub.remove(job_stream)
            if job_stream.failed:
                self._ended(model, [job])
        if job_stream.failure is not None:
            raise job_stream.failure

    def _take_up(self, model: ModelName, job: JobId, tenant: str, after: Seq) -> JobStream:
        """Returns the stream prepared at submit, or a new one that must find its place first."""
        job_stream = self._hub.expected(job) if after == NOTHING_YET else None
        if job_stream is None or job_stream.tenant != tenant:
            job_stream = JobStream(model, job, tenant, after)
            self._hub.add(job_stream)
        job_stream.read = True
        return job_stream

    async def catch_up(self, job_stream: JobStream) -> None:
        """Finds our place in Redis if we are unsure of it, and fills a hole from the log. Raises `RedisAway`."""
        if job_stream.unsure:
            await self._attach(job_stream)
        while job_stream.lagging and not job_stream.unsure:
            await job_stream.drained()
            await self._read_on(job_stream)

    async def _read_on(self, job_stream: JobStream) -> None:
        """Reads one page of the log. Frames may arrive meanwhile, and the place may be lost: then the page counts no
        more."""
        asked, job_stream.lagging = job_stream.next, False
        try:
            page = await read_log(self._broker, job_stream.model, job_stream.job, Seq(asked - 1))
        except RedisAway:
            job_stream.lagging = True
            raise
        if job_stream.unsure:
            return
        if page and page[0][0] != asked:
            raise StreamLost(f"Chunk {asked} of `{job_stream.job}` is no longer in its log.")
        job_stream.accept(page)
        job_stream.lagging = (job_stream.lagging or bool(page)) and not job_stream.done

    async def _attach(self, job_stream: JobStream) -> None:
        have = job_stream.delivered
        place = await self._place(job_stream, replace(have, chunks=()))
        if place.state == "lost" and have.chunks:
            place = await self._place(job_stream, have)
        match place.state:
            case "missing":
                await self._submit_again(job_stream)
            case "lost":
                raise StreamLost(
                    f"The stream of `{job_stream.job}` ends at {place.seq}, before the place asked for "
                    f"({job_stream.next - 1}): the rest was lost and cannot be restored."
                )
            case _:
                job_stream.unsure = False
                job_stream.news(place.seq, place.lease)
                job_stream.settle_at(place.seq if place.settled else None)

    async def _place(self, job_stream: JobStream, have: jobs.Delivered) -> jobs.JobPosition:
        return await jobs.attach(self._broker, job_stream.model, job_stream.job, self._gateway, job_stream.tenant, have)

    async def _submit_again(self, job_stream: JobStream) -> None:
        """Handles a job that Redis does not know. If we submitted it and have all its chunks, it goes on from them."""
        origin, prefix = job_stream.origin, job_stream.prefix
        if origin is None or prefix is None:
            raise await self._missing(job_stream.model, job_stream.job, Seq(job_stream.first - 1))
        log.warning("job_submitted_again", job=job_stream.job, model=job_stream.model, chunks=len(prefix))
        left = max(1, int(origin.envelope.timeout_ms - (monotonic() - job_stream.born) * 1000))
        envelope = replace(origin.envelope, timeout_ms=left, idempotency_digest="", bounds=jobs.Bounds())
        again = jobs.NewJob(job_stream.job, origin.request, prefix, job_stream.grant)
        await jobs.submit(self._broker, job_stream.model, envelope, [again])
        job_stream.unsure = False

    async def _missing(self, model: ModelName, job: JobId, after: Seq) -> MillstreamError:
        """Returns why there is no such job. After a restart, a gateway may be about to put it back: that is waited for
        like a Redis that is away."""
        absence = await jobs.absence(self._broker, model)
        if absence.may_return > 0:
            return RedisAway(f"Redis was restarted and does not know `{job}`; it may still be put back.")
        return _lost_in_restart(job, absence.uptime, self._retention) or _unknown(job, after)

    async def logged(
        self, model: ModelName, job: JobId, *, tenant: str, after: Seq = NOTHING_YET, most: int | None = None
    ) -> list[LoggedChunk]:
        async def look() -> tuple[list[tuple[Seq, bytes]], str]:
            found = await self._from(model, job, after, most)
            owner = await jobs.owner(self._broker, model, job)  # last: a log that expired is not an empty one
            if owner is None:
                raise await self._missing(model, job, after)
            return found, owner

        found, owner = await retry_while_away(look, LOOK_PATIENCE)
        if owner != tenant:
            raise _unknown(job, after)
        if after > NOTHING_YET and (not found or found[0][0] != after):
            raise StreamLost(f"The stream of `{job}` does not reach the place asked for ({after}): it was lost.")
        return [(seq, decode_chunk(raw)) for seq, raw in found if seq > after][:most]

    async def _from(self, model: ModelName, job: JobId, place: Seq, most: int | None) -> list[tuple[Seq, bytes]]:
        """Returns the chunk at the place, which shows that the log reaches it, and those after it."""
        before = Seq(max(place - 1, NOTHING_YET))
        page = found = await read_log(self._broker, model, job, before, PAGE if most is None else most + 1)
        while most is None and len(page) == PAGE:
            page = await read_log(self._broker, model, job, found[-1][0])
            found += page
        return found


def _lost_in_restart(job: JobId, uptime: float, retention: float) -> StreamLost | None:
    """Returns the error for a job that was made before the last restart, and so lately that it cannot have expired."""
    try:
        age = time.time() - request_of(job).created
    except NotFound:
        return None
    if not uptime <= age < retention:
        return None
    message = f"The stream of `{job}` was lost: Redis was restarted {uptime:.0f} s ago, and no gateway had its tokens."
    return StreamLost(message)


def _unknown(job: JobId, after: Seq) -> MillstreamError:
    what = f"There is no request `{job}`: it never was, or what was kept of it has expired."
    return LogExpired(what, param="Last-Event-ID") if after > NOTHING_YET else NotFound(what)
