"""Streams read from their jobs' chunk logs: the place found in Redis, holes filled, what Redis lost put back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from time import monotonic

import structlog

from millstream.common.broker import jobs
from millstream.common.broker.chunks import PAGE, read_log
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.retry import patiently
from millstream.common.chunk import NOTHING_YET, Chunk, Seq, decode_chunk
from millstream.common.errors import Expired, LogExpired, MillstreamError, NotFound, StreamLost
from millstream.common.job import GatewayId, JobId, ModelName
from millstream.common.process.backoff import Backoff
from millstream.gateway.queue.client import Offer
from millstream.gateway.queue.hub import Switchboard
from millstream.gateway.queue.job_stream import Follower, Item

LOOK_PATIENCE = 30.0  # seconds a look waits for a Redis that restarts or fails over; proxies cut a silence after 60

log = structlog.stdlib.get_logger(part="dispatch")


class LogReader:
    """The reading half of a `Dispatch`; the switchboard brings the news."""

    def __init__(self, broker: Broker, gateway: GatewayId, switchboard: Switchboard) -> None:
        self._broker = broker
        self._gateway = gateway
        self._switchboard = switchboard

    async def follow(
        self,
        model: ModelName,
        job: JobId,
        *,
        tenant: str,
        after: Seq = NOTHING_YET,
        express: Offer | None = None,
    ) -> AsyncIterator[list[tuple[Seq, Chunk]]]:
        follower = self._take_up(model, job, tenant, after)
        follower.express = express
        backoff = Backoff()
        try:
            while not follower.ended:
                try:
                    await self.catch_up(follower)
                except RedisAway:
                    if follower.overdue:
                        raise Expired("The queue (Redis) was away until the request's deadline passed.") from None
                    await backoff.sleep()
                    yield []
                    continue
                if items := follower.drain():
                    yield items
                elif not follower.ended and not await follower.wait():
                    yield []
        finally:
            self._switchboard.remove(follower)

    def _take_up(self, model: ModelName, job: JobId, tenant: str, after: Seq) -> Follower:
        """The stream prepared at submit, or a new one that must find its place first."""
        follower = self._switchboard.expected(job) if after == NOTHING_YET else None
        if follower is None or follower.tenant != tenant:
            follower = Follower(model, job, tenant, after)
            self._switchboard.add(follower)
        follower.read = True
        return follower

    async def catch_up(self, follower: Follower) -> None:
        """Find our place in Redis if we are unsure of it, and fill a hole from the log. Raises `RedisAway`."""
        if follower.unsure:
            await self._attach(follower)
        while follower.behind and not follower.full and not follower.unsure:
            await self._read_on(follower)

    async def _read_on(self, follower: Follower) -> None:
        """One page of the log. Frames may arrive meanwhile, and the place may be lost: then the page counts no more."""
        asked, follower.behind = follower.next, False
        try:
            page = await read_log(self._broker, follower.model, follower.job, Seq(asked - 1))
        except RedisAway:
            follower.behind = True
            raise
        if follower.unsure:
            return
        if page and page[0][0] != asked:
            raise StreamLost(f"Chunk {asked} of `{follower.job}` is no longer in its log.")
        for seq, raw in page:
            if seq == follower.next:
                follower.accept(raw)
        follower.behind = (follower.behind or bool(page)) and not follower.done

    async def _attach(self, follower: Follower) -> None:
        have = follower.delivered
        place = await self._place(follower, replace(have, chunks=()))
        if place.state == "lost" and have.chunks:
            place = await self._place(follower, have)
        match place.state:
            case "missing":
                await self._submit_again(follower)
            case "lost":
                raise StreamLost(
                    f"The stream of `{follower.job}` ends at {place.seq}, before the place asked for "
                    f"({follower.next - 1}): the rest was lost and cannot be restored."
                )
            case _:
                follower.unsure = False
                follower.news(place.seq, place.lease)
                follower.settle_at(place.seq if place.settled else None)

    async def _place(self, follower: Follower, have: jobs.Delivered) -> jobs.Place:
        return await jobs.attach(self._broker, follower.model, follower.job, self._gateway, follower.tenant, have)

    async def _submit_again(self, follower: Follower) -> None:
        """Redis does not know the job. If we submitted it and have all its chunks, it goes on from them."""
        origin, prefix = follower.origin, follower.prefix
        if origin is None or prefix is None:
            raise _unknown(follower.job, Seq(follower.first - 1))
        log.warning("job_submitted_again", job=follower.job, model=follower.model, chunks=len(prefix))
        left = max(1, int(origin.envelope.timeout_ms - (monotonic() - follower.born) * 1000))
        envelope = replace(origin.envelope, timeout_ms=left, idempotency_digest="", bounds=jobs.Bounds())
        again = jobs.NewJob(follower.job, origin.request, prefix, follower.grant)
        await jobs.submit(self._broker, follower.model, envelope, [again])
        follower.unsure = False

    async def logged(
        self, model: ModelName, job: JobId, *, tenant: str, after: Seq = NOTHING_YET, most: int | None = None
    ) -> list[Item]:
        async def look() -> tuple[list[tuple[Seq, bytes]], str | None]:
            found = await self._from(model, job, after, most)
            return found, await jobs.owner(self._broker, model, job)  # last: a log that expired is not an empty one

        found, owner = await patiently(look, LOOK_PATIENCE)
        if owner != tenant:
            raise _unknown(job, after)
        if after > NOTHING_YET and (not found or found[0][0] != after):
            raise StreamLost(f"The stream of `{job}` does not reach the place asked for ({after}): it was lost.")
        return [(seq, decode_chunk(raw)) for seq, raw in found if seq > after][:most]

    async def _from(self, model: ModelName, job: JobId, place: Seq, most: int | None) -> list[tuple[Seq, bytes]]:
        """The chunk at the place, which shows that the log reaches it, and those behind it."""
        before = Seq(max(place - 1, NOTHING_YET))
        page = found = await read_log(self._broker, model, job, before, PAGE if most is None else most + 1)
        while most is None and len(page) == PAGE:
            page = await read_log(self._broker, model, job, found[-1][0])
            found += page
        return found


def _unknown(job: JobId, after: Seq) -> MillstreamError:
    what = f"There is no request `{job}`: it never was, or what was kept of it has expired."
    return LogExpired(what, param="Last-Event-ID") if after > NOTHING_YET else NotFound(what)
