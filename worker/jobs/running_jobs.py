"""The jobs this worker holds for one model, each with what it has made and what of that Redis has."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from time import monotonic, time
from typing import Literal

from msgspec.structs import replace

from millstream.common.broker.workers import Claimed, End, JobStep
from millstream.common.chunk import Chunk, Seq, Start, Usage, encode_chunk
from millstream.common.job import JobId
from millstream.common.tracing.context import TraceContext
from millstream.worker.engines.base import SequenceKey, SequenceSpec
from millstream.worker.text.transcript import Transcript, merge

# Why a job is held here no more. What is taken from this worker has no such word: whoever took it tells of it.
Leaving = Literal["ended", "handed_over", "preempted", "given_back", "passed_on"]
# What nobody reads token by token leaves when it is so old or so much: no more is made again after a worker's death.
PIECE_SECONDS = 1.0
PIECE_TOKENS = 64


@dataclass(slots=True, eq=False)
class RunningJob:
    """One job under this worker's lease. `written` holds every chunk from seq 1 on, those of earlier leases included:
    whatever a restarted Redis turns out to have lost can be sent again."""

    claimed: Claimed
    written: list[bytes] = field(default_factory=list[bytes])
    acked: int = 0  # chunks Redis has confirmed
    drafts: list[Chunk] = field(default_factory=list[Chunk])  # made since the last step, in order
    end: End | None = None
    transcript: Transcript | None = None  # None until the prompt is rendered, and for jobs that generate nothing
    spec: SequenceSpec | None = None
    start: Start | None = None  # chunk 1, until it is drafted
    tokens: list[int] = field(default_factory=list[int])  # completion tokens so far, of all leases
    counted: int = 0  # the same where the engine does not tell their ids
    earlier: int = 0  # of the tokens, those that earlier leases made
    taken: int = 0  # of the tokens, those that a step has taken along
    delivered: int = 0  # of the tokens, those in chunks Redis has confirmed
    cached: int = 0  # prompt tokens served from the prefix cache
    first_after: float | None = None  # seconds from the claim until the first token of this lease left
    sent_at: float = 0.0  # when a step last took its chunks along, monotonic
    since: float = field(default_factory=monotonic)
    beginning: asyncio.Task[None] | None = None  # what still prepares it

    @property
    def facts(self) -> dict[str, object]:
        """Returns the fields by which the log tells of it; the worker is bound to every event of the process."""
        told: dict[str, object] = {
            "job": self.claimed.id,
            "model": self.claimed.model,
            "attempt": self.claimed.attempt,
        }
        trace = TraceContext.of(self.claimed.request.traceparent)
        return told | {"trace_id": trace.trace_id} if trace is not None else told

    @property
    def key(self) -> SequenceKey:
        """Returns the key by which the engine knows the job: ours, and new with every lease."""
        return SequenceKey(f"{self.claimed.id}#{self.claimed.grant}")

    @property
    def age(self) -> float:
        """Returns the seconds since this worker claimed it."""
        return monotonic() - self.since

    @property
    def made(self) -> int:
        """Returns the number of completion tokens of this lease alone."""
        return self.completion - self.earlier

    @property
    def completion(self) -> int:
        """Returns the number of completion tokens so far, of all leases."""
        return len(self.tokens) or self.counted

    @property
    def usage(self) -> Usage:
        """Returns what its tenant has used with it so far. A prompt that several jobs share counts once."""
        if self.spec is None or self.claimed.request.repeats_prompt:
            return Usage(completion=self.completion)
        return Usage(len(self.spec.prompt), len(self.tokens), self.cached)

    @property
    def used(self) -> int:
        """Returns the sum of the tokens in `usage`."""
        usage = self.usage
        return usage.prompt + usage.completion

    @property
    def dirty(self) -> bool:
        """Tells whether there is something Redis does not have yet."""
        return bool(self.drafts) or self.acked < len(self.written) or self.end is not None

    @property
    def urgent(self) -> bool:
        """Tells whether what Redis does not have is to go at once. Of an answer that nobody reads token by token these
        are the first token of a lease, which shows that the job has got further, slices of a recording, and its
        end."""
        if self.acked < len(self.written) or self.end is not None:
            return True
        if any(chunk.slice is not None for chunk in self.drafts):
            return True  # seconds of work
        return bool(self.drafts) and (self.claimed.request.watched or self.taken <= self.earlier)

    def piece_due(self, now: float) -> bool:
        """Tells whether a piece that was held back is to go; `now` is monotonic."""
        return now - self.sent_at >= PIECE_SECONDS or self.completion - self.taken >= PIECE_TOKENS

    def draft(self, *chunks: Chunk) -> None:
        """Adds to what the next step takes along; nothing is added to a job that has ended."""
        if self.end is None:
            self.drafts += chunks

    def finish(self, end: End, *last: Chunk) -> None:
        """Ends the job; its last chunk, which tells when that was, goes with the next step."""
        self.draft(*last[:-1], *(replace(chunk, ended=int(time())) for chunk in last[-1:]))
        self.end = self.end or end

    def stop_beginning(self) -> None:
        """Nobody waits for what prepares it."""
        if self.beginning is not None:
            self.beginning.cancel()

    def take_step(self) -> JobStep:
        """Numbers the drafts and returns all that Redis has not confirmed."""
        self.written += [encode_chunk(chunk) for chunk in coalesce(self.drafts)]
        self.drafts.clear()
        made = self.completion
        if self.taken <= self.earlier < made:
            self.first_after = self.age
        self.taken = made
        unsent = self.written[self.acked :]
        return JobStep(self.claimed.id, self.claimed.lease, Seq(self.acked + 1), unsent, self.end)


def coalesce(drafts: list[Chunk]) -> list[Chunk]:
    """Joins what several engine steps made while one call to Redis was under way. The start and the last chunk stay by
    themselves: each is an event of its own."""
    if len(drafts) < 2:  # the usual case: one token in one step
        return drafts
    joined: list[Chunk] = []
    for alone, together in groupby(drafts, _alone):
        chunks = list(together)
        joined += chunks if alone or len(chunks) == 1 else [merge(chunks)]
    return joined


def _alone(chunk: Chunk) -> bool:
    others = (chunk.start, chunk.finish, chunk.error, chunk.result, chunk.slice)
    return any(each is not None for each in others)


def left_by(reply: str, why: Leaving) -> Leaving | None:
    """Returns why a job is held no more that was given back: a `fenced` one had been taken from here before."""
    return why if reply == "queued" else None


class RunningJobs:
    """The jobs by id and by sequence. `ledger` is held while a claim or a beat compares notes with Redis, so that
    neither sees the other half done. `gone` is set whenever a job goes, `freed` when something may be claimed for its
    slot: not if Redis said that nobody waits, unless the inbox rang while there was no room (`rung_in_vain`). `left` is
    told of each job that this worker ended or gave up, once Redis knows."""

    def __init__(self, left: Callable[[RunningJob, Leaving], None] | None = None) -> None:
        self._left = left
        self._by_id: dict[JobId, RunningJob] = {}
        self._by_key: dict[SequenceKey, RunningJob] = {}
        self.ledger = asyncio.Lock()
        self.freed = asyncio.Event()
        self.gone = asyncio.Event()
        self.rung_in_vain = False
        self._emptied = monotonic()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(list(self._by_id.values()))

    @property
    def idle(self) -> float:
        """Returns the seconds since the last job went; 0 while there is one."""
        return 0.0 if self._by_id else monotonic() - self._emptied

    @property
    def ids(self) -> list[JobId]:
        return list(self._by_id)

    def add(self, job: RunningJob) -> None:
        self._by_id[job.claimed.id] = job
        self._by_key[job.key] = job

    def by_id(self, id: JobId) -> RunningJob | None:
        return self._by_id.get(id)

    def by_key(self, key: SequenceKey) -> RunningJob | None:
        return self._by_key.get(key)

    def has(self, job: RunningJob) -> bool:
        """Tells whether this very lease of the job is still held."""
        return self._by_id.get(job.claimed.id) is job

    def remove(self, job: RunningJob, why: Leaving | None = None, *, claim: bool = True) -> None:
        """Forgets a job; one that is not held (any more) is fine. `why` is None for one that was taken from here.
        `claim`: somebody may wait for its slot."""
        job.stop_beginning()
        if self.has(job):
            del self._by_id[job.claimed.id]
            del self._by_key[job.key]
            self._emptied = monotonic()
            self.gone.set()
            if claim or self.rung_in_vain:
                self.freed.set()
            if why is not None and self._left is not None:
                self._left(job, why)
