"""The queue's edge with scripted chunks: jobs live in memory, their chunk logs are written by the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from millstream.common.broker.models.directory import ModelInfo, WorkerInfo
from millstream.common.chunk import NOTHING_YET, Chunk, Failure, FinishReason, Seq, Start, Usage
from millstream.common.errors import IdempotencyConflict, MillstreamError, ModelNotFound, NotFound, StreamLost
from millstream.common.job import JobId, JobRequest, ModelName, WorkerId
from millstream.common.tracing.sender import SpanSender
from millstream.gateway.queue.client import Admission, Submission, Waiting
from millstream.gateway.queue.sink import ChunkSink
from millstream.gateway.records.store import Kind, Record
from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.settings import GatewaySettings

MODEL = ModelName("smollm2-135m-instruct")
USAGE = Usage(prompt=7, completion=4, cached=2, reasoning=1)


def said(*texts: str, finish: FinishReason = "stop", usage: Usage = USAGE) -> list[Chunk]:
    """A start chunk, a chunk per text, and the end."""
    begin = Chunk(start=Start(prompt_tokens=usage.prompt, fingerprint="fp_test"))
    words = [Chunk(ids=[index], text=text) for index, text in enumerate(texts)]
    return [begin, *words, Chunk(finish=finish, usage=usage)]


def failed(code: str, message: str = "it broke", param: str | None = None) -> Chunk:
    """A job's last chunk when it failed."""
    return Chunk(error=Failure(code, message, param))


@dataclass
class Job:
    """One job: its whole script, and how much of it has happened."""

    request: JobRequest
    submission: Submission
    script: list[Chunk]
    happened: int
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class ScriptedDispatch:
    """`Dispatch` in memory. `script` gives each job's chunks; `at_first` is how many have happened at submit (None:
    all); `advance` lets more happen."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.keys: dict[tuple[str, str], tuple[str, list[JobId]]] = {}
        self.cancelled: list[JobId] = []
        self.job_streams = 0
        self.lagging = 0  # of them, those whose sinks are full
        self.script: Callable[[JobRequest], list[Chunk]] = lambda request: said("Hello", " wor", "ld")
        self.at_first: int | None = None
        self.refusal: MillstreamError | None = None
        self.admission = Admission("routed", [])
        self.keep_alive = 0.05
        self.loading = ""  # what a worker says that loads the model

    @property
    def submissions(self) -> list[Submission]:
        """In the order they came, one per request."""
        return list({id(job.submission): job.submission for job in self.jobs.values()}.values())

    @property
    def requests(self) -> list[JobRequest]:
        """Returns the requests of all jobs."""
        return [job.request for job in self.jobs.values()]

    async def submit(self, submission: Submission) -> Admission:
        if self.refusal is not None:
            raise self.refusal
        if submission.model != MODEL:
            raise ModelNotFound(f"The model '{submission.model}' does not exist. Served: '{MODEL}'.", param="model")
        key = (submission.tenant, submission.idempotency_key or "")
        if key[1] and key in self.keys:
            fingerprint, jobs = self.keys[key]
            if fingerprint != submission.fingerprint:
                raise IdempotencyConflict("That idempotency key belongs to another body.")
            return Admission("duplicate", jobs)
        ids = [job for job, _ in submission.jobs]
        self.keys[key] = (submission.fingerprint, ids)
        for job, request in submission.jobs:
            script = self.script(request)
            happened = len(script) if self.at_first is None else self.at_first
            self.jobs[job] = Job(request, submission, script, happened)
        return replace(self.admission, jobs=ids)

    async def follow(
        self, model: ModelName, job: JobId, sink: ChunkSink, *, tenant: str, after: Seq = NOTHING_YET
    ) -> None:
        found = self._job_of(model, job, tenant)
        if after > len(found.script):
            raise StreamLost(f"The stream of '{job}' ends before {after}.")
        self.job_streams += 1
        try:
            while after < len(found.script):
                there = [(Seq(index + 1), found.script[index]) for index in range(after, found.happened)]
                if there:
                    await self._drained(sink)
                    after = there[-1][0] if sink.put(there) else after
                    if after == there[-1][0] and there[-1][1].last:
                        return
                elif not await self._changed(found):
                    sink.show_life()
        finally:
            self.job_streams -= 1

    async def logged(
        self, model: ModelName, job: JobId, *, tenant: str, after: Seq = NOTHING_YET, most: int | None = None
    ) -> list[tuple[Seq, Chunk]]:
        found = self._job_of(model, job, tenant)
        if after > found.happened:
            raise StreamLost(f"The stream of '{job}' ends before {after}.")
        return [(Seq(index + 1), found.script[index]) for index in range(after, found.happened)][:most]

    def _job_of(self, model: ModelName, job: JobId, tenant: str) -> Job:
        found = self.jobs.get(job)
        if found is None or found.submission.tenant != tenant or found.submission.model != model:
            raise NotFound(f"No job '{job}'.")
        return found

    def waiting(self, job: JobId) -> Waiting | None:
        found = self.jobs.get(job)
        if found is None or found.happened or self.admission.outcome != "queued":
            return None
        return Waiting(self.admission.position, self.admission.wait, 1, self.loading)

    async def _drained(self, sink: ChunkSink) -> None:
        self.lagging += 1
        try:
            await sink.drained()
        finally:
            self.lagging -= 1

    async def _changed(self, job: Job) -> bool:
        async with job.changed:
            try:
                await asyncio.wait_for(job.changed.wait(), self.keep_alive)
            except TimeoutError:
                return False
        return True

    async def advance(self, count: int = 1, job: JobId | None = None) -> None:
        """Let `count` more chunks happen, of one job or of all."""
        for found in [self.jobs[job]] if job else list(self.jobs.values()):
            found.happened = min(found.happened + count, len(found.script))
            async with found.changed:
                found.changed.notify_all()

    async def cancel(self, model: ModelName, ids: list[JobId], *, tenant: str = "") -> list[str]:
        states: list[str] = []
        for job in ids:
            found = self.jobs.get(job)
            if found is None or (tenant and found.submission.tenant != tenant):
                states.append("missing")
                continue
            states.append("cancelled")
            self.cancelled.append(job)
            if found.happened < len(found.script):
                found.script = [*found.script[: found.happened], failed("cancelled", "The request was cancelled.")]
                await self.advance(1, job)
        return states

    async def leave(self, model: ModelName, ids: list[JobId]) -> None:
        await self.cancel(model, ids)


class ScriptedDirectory:
    """`Directory` with one model and one worker, until the test says otherwise."""

    def __init__(self) -> None:
        worker = WorkerInfo(WorkerId("w1"), MODEL, alive=True, load=0, slots=8, speed=50.0)
        self.listed = [
            ModelInfo(
                MODEL, [worker], 0, "transformers", 2048, "fp_test", ("chat", "completions"), created=1_700_000_000
            )
        ]
        self.fault: Exception | None = None

    async def models(self) -> list[ModelInfo]:
        if self.fault is not None:
            raise self.fault
        return self.listed

    async def ping(self) -> None:
        if self.fault is not None:
            raise self.fault


class MemoryStore:
    """`Store` in memory."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], dict[str, Record]] = {}

    def _shelf(self, tenant: str, kind: Kind) -> dict[str, Record]:
        return self.records.setdefault((tenant, kind), {})

    async def put(
        self, tenant: str, kind: Kind, record: Record, ttl: float, *, anew: bool = False, always: bool = False
    ) -> None:
        assert ttl > 0
        if anew and record.id not in self._shelf(tenant, kind):
            return
        self._shelf(tenant, kind)[record.id] = record

    async def check_room(self, tenant: str, kind: Kind) -> None:
        """There is always some."""

    async def get(self, tenant: str, kind: Kind, identity: str) -> Record | None:
        identity.encode()  # a key of Redis is bytes: half a surrogate pair fails there as it does here
        return self._shelf(tenant, kind).get(identity)

    async def uptime(self, tenant: str) -> float:
        return float("inf")

    async def delete(self, tenant: str, kind: Kind, identity: str) -> bool:
        return self._shelf(tenant, kind).pop(identity, None) is not None

    async def list(
        self, tenant: str, kind: Kind, *, after: str | None = None, limit: int = 20, descending: bool = False
    ) -> list[Record]:
        ordered = sorted(self._shelf(tenant, kind).values(), key=lambda record: (record.created, record.id))
        ordered = ordered[::-1] if descending else ordered
        begin = next((index + 1 for index, record in enumerate(ordered) if record.id == after), 0)
        return ordered[begin : begin + limit]


@dataclass
class ScriptedCluster:
    """A cluster to plug a gateway into, more than one if need be."""

    queue: ScriptedDispatch = field(default_factory=ScriptedDispatch)
    directory: ScriptedDirectory = field(default_factory=ScriptedDirectory)
    store: MemoryStore | None = field(default_factory=MemoryStore)
    spans: SpanSender | None = None

    @asynccontextmanager
    async def connect(self, settings: GatewaySettings) -> AsyncIterator[ClusterServices]:
        yield ClusterServices(self.queue, self.directory, self.store, spans=self.spans)
