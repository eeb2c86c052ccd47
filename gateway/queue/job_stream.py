"""One stream's place in one job's chunk log: which frames to deliver, which to drop, when there is a hole.

Pure bookkeeping, no I/O. `seq` below the next: drop. Older grant than seen: drop. Equal: deliver. Above: a hole, to be
repaired from the log. What a full sink does not take is a hole too: the stream lags until the sink has drained.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Literal

import structlog

from millstream.common.broker.jobs import Delivered, Envelope, JobPosition
from millstream.common.chunk import Seq, decode_chunk
from millstream.common.job import JobId, JobRequest, Lease, ModelName
from millstream.gateway.queue.client import Waiting
from millstream.gateway.queue.job_times import JobTimes
from millstream.gateway.queue.sink import ChunkSink, LoggedChunk

SILENT = 0.5  # seconds without a frame until Redis is asked about a stream
UNWATCHED = 1.5  # the same of an answer whose chunks leave in pieces, one a second
BUFFER = 1024  # chunks kept until somebody reads the stream; what comes after them is read from the log

log = structlog.stdlib.get_logger(part="stream")


@dataclass(frozen=True, slots=True)
class Origin:
    """The submission of a job, kept by the gateway that made it, so that it can do it again if Redis loses the job."""

    request: JobRequest
    envelope: Envelope


class JobStream:
    """Follows `job` from seq `after` + 1. Without an `origin` its place in Redis has to be found first."""

    def __init__(self, model: ModelName, job: JobId, tenant: str, after: Seq, origin: Origin | None = None) -> None:
        self.model = model
        self.job = job
        self.tenant = tenant
        self.origin = origin
        self.watched = origin is None or origin.request.watched
        self.born = monotonic()
        self.times = JobTimes(model, origin.envelope.tier if origin else "")
        self.first = after + 1
        self.next = after + 1
        self.lease: Lease | Literal[""] = ""  # under which the last chunk was delivered
        self.newest: Lease | Literal[""] = ""  # the newest heard of: what older ones send is not delivered any more
        self.grant = 0  # its number
        self._kept_grant = 0  # that of the last chunk's lease
        self.lagging = False  # the log has more than was delivered: read it
        self.unsure = origin is None  # our place in Redis must be found (again) before going on
        self.done = False  # the last chunk was delivered, or the sink has failed
        self.failed = False  # its last chunk is an error
        self.failure: Exception | None = None  # of the sink
        self.heard = monotonic()
        self.asked = 0.0  # when the watchdog last asked about it
        self.look_at = 0.0  # when the watchdog looks at it again
        self.resting = 0  # in which of its rounds, if not in each
        self.spread = random.uniform(0.8, 1)  # many that came together are not asked about together for ever
        self.nudged = 0.0  # when it last showed a sign of life
        self.read = False  # somebody reads it
        self._place: Waiting | None = None  # in the queue, as last told
        self._chunks: list[bytes] = []  # all since `first`: what Redis may have to be given back
        self._sink: ChunkSink | None = None
        self._early: list[LoggedChunk] = []  # what came before there was a sink
        self._waiter: asyncio.Future[None] | None = None

    @property
    def silent(self) -> float:
        """Returns how long it may be silent, in seconds, until Redis is asked. Until it has heard something, a repeated
        request's job may be over, of which nothing comes by itself."""
        return SILENT if self.watched or self.next == self.first else UNWATCHED

    def open(self, sink: ChunkSink) -> None:
        """Delivers to `sink` from now on, beginning with what has come already."""
        self._sink, early, self._early = sink, self._early, []
        if early:
            self._put(early)

    def take(self, lease: str, seq: int, raw: bytes) -> None:
        """Takes a frame that arrived. While our place is not known it may be of a log that went another way: the log
        tells."""
        if self.unsure or self.done or seq < self.next or not self._valid(lease):
            return
        if seq > self.next and not self.lagging:
            self.times.losses["hole"] += 1
        if seq > self.next or not self._deliver([(Seq(seq), decode_chunk(raw))], [bytes(raw)], live=True):
            self.lagging = True
            self.wake()

    def _valid(self, lease: str) -> bool:
        """Tells whether this lease is the newest seen; it is from now on."""
        grant = int(lease.partition(":")[0])
        if grant >= self.grant:
            self.grant, self.newest = grant, Lease(lease)
        return grant >= self.grant

    def accept(self, page: list[tuple[Seq, bytes]]) -> None:
        """Takes a page of the log that begins at or before the next chunk: frames may have come since it was read."""
        new = [(seq, raw) for at, (seq, raw) in enumerate(page, page[0][0] if page else 0) if seq == at >= self.next]
        chunks = [(seq, decode_chunk(raw)) for seq, raw in new]
        if new and not self._deliver(chunks, [raw for _, raw in new], live=False):
            self.lagging = True

    def _deliver(self, chunks: list[LoggedChunk], raws: list[bytes], *, live: bool) -> bool:
        """Delivers the next chunks. Tells whether they were taken. `live`: one that came by a frame, now."""
        if not self._put(chunks):
            return False
        now = monotonic()
        if live and self.next > 2 and self.grant == self._kept_grant and not chunks[0][1].last:
            if self.watched:  # else the gap is between two pieces, for which nobody waits
                self.times.gaps.append(now - self.heard)
        else:
            self._note(chunks, now, live=live)
        self._chunks += raws
        self.next += len(raws)
        self.lease = self.newest
        self.heard = now
        self.look_at = min(self.look_at, self.heard + self.silent)  # it may have been waiting for long until now
        if chunks[-1][1].last:
            self.done, self.failed = True, chunks[-1][1].error is not None
            self.wake()
        return True

    def _put(self, chunks: list[LoggedChunk]) -> bool:
        """Never raises: it is called by the one reader of all streams."""
        if self._sink is None:
            if len(self._early) >= BUFFER:
                return False
            self._early += chunks
            return True
        try:
            return self._sink.put(chunks)
        except Exception as error:  # noqa: BLE001 (whoever follows raises it)
            self.failure, self.done = error, True
            self.wake()
            return True

    def _note(self, chunks: list[LoggedChunk], now: float, *, live: bool) -> None:
        """Notes the times of chunks that are more than one among many: the first ones, the last one, a new lease's, and
        those read from the log."""
        if self.grant != self._kept_grant and not self.newest.endswith(":"):  # such a lease is nobody's yet
            if self._kept_grant:
                self.times.silences.append(now - self.heard)
            self._kept_grant = self.grant
        if self.origin is not None:
            self.times.repaired += 0 if live else len(chunks)
            for seq, chunk in chunks:
                self.times.note(seq, chunk, now - self.born)

    @property
    def waiting(self) -> Waiting | None:
        """Returns the job's place in the queue, as last told; None if that is not known, or the job has begun."""
        return self._place if self.next == 1 else None

    def stands(self, place: Waiting | None) -> None:
        """Sets the job's place in the queue (None: it does not wait). Its client is told."""
        self._place = place
        if self.waiting is not None:
            self.show_life()

    def show_life(self) -> None:
        """Makes a sign of life due."""
        self.nudged = monotonic()
        if self._sink is not None:
            try:
                self._sink.show_life()
            except Exception:
                log.exception("sign_of_life_failed", job=self.job)

    def told(self, place: JobPosition, had: Seq) -> None:
        """Takes Redis's answer on the job's place; it was asked when `had` was the last chunk here. Less than that is a
        loss, which no broken connection need have announced: another node may have taken over."""
        self.times.losses["silence"] += place.seq >= self.next and not self.lagging
        if place.state == "missing" or place.seq < had:
            self.lost()
        else:
            self.news(place.seq, place.lease)

    def news(self, seq: int, lease: str) -> None:
        """Notes that, as Redis says, its log reaches to `seq`."""
        if lease:
            self._valid(lease)
        if seq >= self.next:
            self.lagging = True
            self.wake()

    def lost(self) -> None:
        """Notes that what Redis has of this job is no longer known: our place must be found again before going on."""
        self.unsure = True
        self.wake()

    async def drained(self) -> None:
        """Returns when the sink takes chunks."""
        assert self._sink is not None
        await self._sink.drained()

    @property
    def delivered(self) -> Delivered:
        """Returns what this gateway has of the job, chunks included."""
        last = self._chunks[-1] if self._chunks else b""
        return Delivered(self.lease, Seq(self.next - 1), last, self.first, self._chunks)

    @property
    def prefix(self) -> Sequence[bytes] | None:
        """Returns all chunks from seq 1 on, or None if this stream began later."""
        return self._chunks if self.first == 1 else None

    @property
    def overdue(self) -> bool:
        """Tells whether the job's deadline, as far as it is known here, has passed."""
        return self.origin is not None and monotonic() - self.born > self.origin.envelope.timeout_ms / 1000

    def settle_at(self, last: Seq | None) -> None:
        """Notes that, as Redis says, the job is settled with chunk `last`: a stream that asks for what follows it has
        ended."""
        if last is not None and self.next > last:
            self.done = True

    def wake(self) -> None:
        """Lets whoever follows this stream look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Waits until there is something to do but to deliver frames. One plain future: no timer on the token path, the
        watchdog looks after silent streams."""
        if not (self.lagging or self.unsure or self.done):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
