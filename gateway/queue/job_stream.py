"""One stream's place in one job's chunk log: which frames to deliver, which to drop, when there is a hole.

Pure bookkeeping, no I/O. `seq` below the next: drop. Older grant than seen: drop. Equal: deliver. Above: a hole, to be
repaired from the log. The buffer is bounded; a slow client's overflow is a hole too, and caught up from the log later.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from millstream.common.broker.jobs import Delivered, Envelope, JobPosition
from millstream.common.chunk import NOTHING_YET, Chunk, Seq, decode_chunk
from millstream.common.job import JobId, JobRequest, Lease, ModelName
from millstream.gateway.queue.client import DirectSink, Waiting
from millstream.gateway.queue.job_times import JobTimes

SILENT = 0.5  # seconds without a frame until Redis is asked about a stream
BUFFER = 1024  # chunks kept for a slow client; beyond, they are read from the log again when it is ready for them

LoggedChunk = tuple[Seq, Chunk]


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
        self.born = monotonic()
        self.times = JobTimes(model, origin.envelope.tier if origin else "")
        self.first = after + 1
        self.next = after + 1
        self.lease: Lease | Literal[""] = ""  # under which the last chunk was delivered
        self.newest: Lease | Literal[""] = ""  # the newest heard of: what older ones send is not delivered any more
        self.grant = 0  # its number
        self._kept_grant = 0  # that of the last chunk's lease
        self.lagging = False  # the log has more than the buffer: read it
        self.unsure = origin is None  # our place in Redis must be found (again) before going on
        self.done = False  # the last chunk has arrived
        self.heard = monotonic()
        self.asked = 0.0  # when the watchdog last asked about it
        self.look_at = 0.0  # when the watchdog looks at it again
        self.resting = 0  # in which of its rounds, if not in each
        self.spread = random.uniform(0.8, 1)  # many that came together are not asked about together for ever
        self.nudged = 0.0  # when it last showed a sign of life
        self.read = False  # somebody reads it
        self.direct: DirectSink | None = None  # the reader's fast path
        self._place: Waiting | None = None  # in the queue, as last told
        self._chunks: list[bytes] = []  # all since `first`: what Redis may have to be given back
        self._ready: list[LoggedChunk] = []
        self._waiter: asyncio.Future[None] | None = None

    def take(self, lease: str, seq: int, raw: bytes) -> None:
        """Takes a frame that arrived. While our place is not known it may be of a log that went another way: the log
        tells."""
        if self.unsure or seq < self.next or not self._valid(lease):
            return
        if seq > self.next or len(self._ready) >= BUFFER:
            if seq > self.next and not self.lagging:
                self.times.losses["hole"] += 1
            self.lagging = True
        else:
            chunk = self._keep(raw, live=True)
            if self._parked and self.direct is not None and self.direct(Seq(seq), chunk):
                return
            self._ready.append((Seq(seq), chunk))
        self.wake()

    def _valid(self, lease: str) -> bool:
        """Tells whether this lease is the newest seen; it is from now on."""
        grant = int(lease.partition(":")[0])
        if grant >= self.grant:
            self.grant, self.newest = grant, Lease(lease)
        return grant >= self.grant

    def accept(self, raw: bytes) -> None:
        """Takes the next chunk, from the log."""
        self.times.repaired += self.origin is not None
        self._ready.append((Seq(self.next), self._keep(raw, live=False)))

    def _keep(self, raw: bytes, *, live: bool) -> Chunk:
        """Keeps the next chunk and returns it. `live`: it came by a frame, now."""
        chunk = decode_chunk(raw)
        self._chunks.append(bytes(raw))
        now = monotonic()
        if self.next <= 2 or chunk.last or self.grant != self._kept_grant:
            self._note(chunk, now)
        elif live:
            self.times.gaps.append(now - self.heard)
        self.next += 1
        self.lease = self.newest
        self.done = chunk.last
        self.heard = now
        self.look_at = min(self.look_at, self.heard + SILENT)  # it may have been waiting for long until now
        return chunk

    def _note(self, chunk: Chunk, now: float) -> None:
        """Notes the times of a chunk that is more than one among many."""
        if self.grant != self._kept_grant and not self.newest.endswith(":"):  # such a lease is nobody's yet
            if self._kept_grant:
                self.times.silences.append(now - self.heard)
            self._kept_grant = self.grant
        if self.origin is None:
            return
        if self.next == 1 and chunk.start is not None:
            self.times.wait = now - self.born
        elif self.next == 2 and chunk.error is None:
            self.times.first_token = now - self.born
        if chunk.finish is not None:
            self.times.answer = now - self.born

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
        if not (self._parked and self.direct is not None and self.direct(NOTHING_YET, None)):
            self.wake()

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

    def drain(self) -> list[LoggedChunk]:
        """Returns all chunks that are ready, in order."""
        ready, self._ready = self._ready, []
        return ready

    @property
    def full(self) -> bool:
        return len(self._ready) >= BUFFER

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
    def ended(self) -> bool:
        """Tells whether everything up to the last chunk has been read."""
        return self.done and not self._ready

    @property
    def overdue(self) -> bool:
        """Tells whether the job's deadline, as far as it is known here, has passed."""
        return self.origin is not None and monotonic() - self.born > self.origin.envelope.timeout_ms / 1000

    def settle_at(self, last: Seq | None) -> None:
        """Notes that, as Redis says, the job is settled with chunk `last`: a stream that asks for what follows it has
        ended."""
        if last is not None and self.next > last:
            self.done = True

    @property
    def _parked(self) -> bool:
        """Tells whether the reader waits, with nothing left to read: then all it was given before has been sent."""
        return self._waiter is not None and not self._waiter.done() and not (self._ready or self.lagging)

    def wake(self) -> None:
        """Let the reader of this stream look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> bool:
        """Waits for `wake` and tells whether there is something to do (else it is time for a sign of life). One plain
        future: no timer and no task on the token path, the watchdog wakes idle streams."""
        if not self._pending:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._pending

    @property
    def _pending(self) -> bool:
        return bool(self._ready) or self.lagging or self.unsure
