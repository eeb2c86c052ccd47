"""The real `QueueClient`: requests onto the queue, their chunks back from it."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Literal

import structlog

from millstream.common.broker import jobs
from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.retry import retry_while_away
from millstream.common.broker.keys import prefix
from millstream.common.broker.models.directory import model_names
from millstream.common.broker.records.uptime import LOOK_EVERY, sought
from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import IdempotencyConflict, ModelNotFound, Overloaded, TooLargeToWait, Unavailable
from millstream.common.job import GatewayId, JobId, ModelName
from millstream.common.process.backoff import Backoff
from millstream.common.single_flight import SingleFlight
from millstream.gateway.queue.client import Admission, Submission, Waiting
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.job_stream import JobStream, Origin
from millstream.gateway.queue.model_names import ModelNames
from millstream.gateway.queue.rate_limits import RateLimiter, within_limits
from millstream.gateway.queue.replay import JobsEnded, LogReader, ignore_ended
from millstream.gateway.queue.sink import ChunkSink, LoggedChunk
from millstream.gateway.queue.wait_estimate import WaitEstimator

UNKNOWN_WAIT = 5.0  # seconds until a refused client comes back while no service rate is measured
SUBMIT_PATIENCE = 5.0  # seconds a request waits for a Redis that is away before it is told to come back later
KNOWN = 1.0  # seconds a model counts as known without asking: an operator may have it forgotten
LEAVE_TRIES = 5  # tries to cancel the jobs of a client that left; after that the gateway's orphan grace does it

log = structlog.stdlib.get_logger(part="dispatch")


@dataclass(frozen=True, slots=True)
class Terms:
    """The promises of this gateway for every request."""

    retention: float = 600.0  # seconds a settled job and its log are kept
    bounds: jobs.Bounds = field(default_factory=jobs.Bounds)


class RedisQueueClient:
    """Implements `gateway.queue.client.QueueClient` over Redis. A model may be called by any of the `names` that its
    workers announced. Answers and records keep the name that was asked for, so the model's own is found here."""

    def __init__(
        self,
        broker: Broker,
        gateway: GatewayId,
        hub: FrameHub,
        wait_estimator: WaitEstimator,
        terms: Terms,
        ended: JobsEnded = ignore_ended,
    ) -> None:
        self._broker = broker
        self._gateway = gateway
        self._hub = hub
        self._ended = ended
        self._reader = LogReader(broker, gateway, hub, terms.retention, ended)
        self._wait_estimator = wait_estimator
        self._terms = terms
        self._limiter = RateLimiter(broker)
        self.names = ModelNames(broker)
        self._read_models = SingleFlight(model_names)
        self._known: frozenset[str] = frozenset()
        self._known_at = 0.0
        self._unanswered: asyncio.Queue[Submission] = asyncio.Queue()

    # ------------------------------------------------------------------------------------------------------ submit

    async def submit(self, submission: Submission) -> Admission:
        submission = within_limits(await self._by_own_name(submission))
        envelope = self._envelope(submission)
        limits = await self._reserve(submission, envelope)
        job_streams = [
            JobStream(submission.model, id, submission.tenant, NOTHING_YET, Origin(request, envelope))
            for id, request in submission.jobs
        ]
        for job_stream in job_streams:  # before the call: the first frame may be here before its reply
            self._hub.add(job_stream)
        accepted = False
        try:
            answer = await self._submit(submission, envelope)
            accepted = answer.outcome in ("routed", "queued")
        except IdempotencyConflict:
            await self._limiter.give_back(submission)
            raise
        except Unavailable:
            self._unanswered.put_nowait(submission)
            raise
        finally:
            if not accepted:
                for job_stream in job_streams:
                    self._hub.remove(job_stream)
        if answer.jobs != [id for id, _ in submission.jobs]:  # refused, or the jobs of an earlier request
            await self._limiter.give_back(submission)
        admission = await self._admission(submission, answer)
        return replace(admission, headers=limits) if limits else admission

    async def _by_own_name(self, submission: Submission) -> Submission:
        """Returns the submission by its model's own name. Raises `ModelNotFound`."""
        model = self.names.model(submission.model)
        try:
            await self._check_model(model, submission.key)
        except ModelNotFound:
            now = (await self.names.refresh()).get(submission.model, submission.model)  # another since a moment ago?
            if now == model:
                raise
            model = now
            await self._check_model(model, submission.key)
        return submission if model == submission.model else replace(submission, model=model)

    async def _reserve(self, submission: Submission, envelope: jobs.Envelope) -> Mapping[str, str]:
        """Reserves the tokens of a request. One that has entered already costs nothing more, so no limit keeps its
        client from coming back to it."""
        try:
            return await self._limiter.reserve(submission)
        except Overloaded:
            if not await jobs.entered(self._broker, submission.model, envelope):
                raise
            return {}

    async def _check_model(self, model: ModelName, key: ApiKey | None) -> None:
        """Raises `ModelNotFound`, naming the models that the key may use; a server that was just restarted may have
        forgotten a model, which its workers then announce again."""
        if model in self._known and monotonic() - self._known_at < KNOWN:
            return
        try:
            await retry_while_away(
                lambda: sought(self._broker, prefix(model), partial(self._look, model)), SUBMIT_PATIENCE
            )
        except RedisAway:
            if model not in self._known:
                raise
        if model not in self._known:
            usable = sorted(name for name in self._known if key is None or key.may_use(ModelName(name)))
            there_are = ", ".join(f"`{name}`" for name in usable) or "none yet: no worker has started"
            message = f"The model `{model}` does not exist. Models here: {there_are}."
            raise ModelNotFound(message, param="model")

    async def _look(self, model: ModelName) -> bool | None:
        self._known = frozenset(await self._read_models(self._broker))
        self._known_at = monotonic()
        return True if model in self._known else None

    def _envelope(self, submission: Submission) -> jobs.Envelope:
        key = submission.idempotency_key
        return jobs.Envelope(
            gateway=self._gateway,
            tenant=submission.tenant,
            tier=submission.tier,
            timeout_ms=int(submission.timeout * 1000),
            retention_ms=int(self._terms.retention * 1000),
            resumable=submission.resumable or submission.kept,
            idempotency_digest=hashlib.sha256(key.encode()).hexdigest()[:32] if key else "",
            fingerprint=submission.fingerprint,
            bounds=self._terms.bounds,
            weight=submission.key.weight if submission.key else 1.0,
            affinity=submission.affinity,
            account=submission.key.id if submission.key else "",
        )

    async def _submit(self, submission: Submission, envelope: jobs.Envelope) -> jobs.Submitted:
        """Submits the jobs. The ids are ours, so a call whose reply was lost is simply made again."""
        new = [jobs.NewJob(id, request) for id, request in submission.jobs]
        answer = await retry_while_away(
            lambda: jobs.submit(self._broker, submission.model, envelope, new), SUBMIT_PATIENCE
        )
        log.info("jobs_submitted", jobs=answer.jobs, model=submission.model, outcome=answer.outcome)
        ours = answer.jobs == [job.id for job in new]  # known already: the reply to an earlier try was lost
        return replace(answer, outcome="routed") if ours and answer.outcome == "duplicate" else answer

    async def tidy(self) -> None:
        """Finds out, once Redis is back, what became of submissions that it did not answer. If the jobs entered, they
        are stopped, because the client was told to come back; if they did not, the key pays nothing. Ends by
        cancellation only."""
        while True:
            submission, backoff = await self._unanswered.get(), Backoff()
            while not await self._tidied(submission):
                await backoff.sleep()

    async def _tidied(self, submission: Submission) -> bool:
        ids = [id for id, _ in submission.jobs]
        try:
            entered = await jobs.read(self._broker, submission.model, ids[0])
            if not entered:
                await self._limiter.give_back(submission)
            elif not submission.resumable:
                await jobs.cancel(self._broker, submission.model, submission.tenant, ids)
        except Unavailable:
            return False
        return True

    async def _admission(self, submission: Submission, answer: jobs.Submitted) -> Admission:
        model = submission.model
        match answer.outcome:
            case "refused":
                self._check_size(submission)
                wait = await self._wait_estimator.wait(model, answer.waiting_jobs) or UNKNOWN_WAIT
                message = (
                    f"The queue for `{model}` is full ({answer.reason}): {answer.waiting_jobs} requests wait. "
                    f"Please try again in {wait:.0f} s."
                )
                raise Overloaded(message, retry_after=wait)
            case "queued":
                service = await self._wait_estimator.service(model)
                if service.workers == 0:
                    log.warning(
                        "no_worker", model=model, jobs=answer.jobs, waits="until a worker comes or its deadline"
                    )
                for at, job in enumerate(answer.jobs):
                    if job_stream := self._hub.expected(job):
                        job_stream.stands(service.waiting(answer.position + at))
                place = service.waiting(answer.position)
                return Admission("queued", answer.jobs, place.position, place.wait, place.workers)
            case outcome:
                return Admission(outcome, answer.jobs)

    def _check_size(self, submission: Submission) -> None:
        """Tells whether it makes sense to come back. Only a refused request is asked: with slots free, none has to
        wait."""
        size = sum(len(jobs.encode_request(request)) for _, request in submission.jobs)
        if excess := self._terms.bounds.exceeded(len(submission.jobs), size):
            raise TooLargeToWait(
                f"Too few slots for `{submission.model}` are free, and this request is too large to wait for them: it "
                f"has {excess}. Ask for less at once."
            )

    # ------------------------------------------------------------------------------------------------------ follow

    async def follow(
        self, model: ModelName, job: JobId, sink: ChunkSink, *, tenant: str, after: Seq = NOTHING_YET
    ) -> None:
        await self._reader.follow(self.names.model(model), job, sink, tenant=tenant, after=after)

    async def logged(
        self, model: ModelName, job: JobId, *, tenant: str, after: Seq = NOTHING_YET, most: int | None = None
    ) -> list[LoggedChunk]:
        return await self._reader.logged(self.names.model(model), job, tenant=tenant, after=after, most=most)

    def waiting(self, job: JobId) -> Waiting | None:
        return self._hub.waiting(job)

    # ------------------------------------------------------------------------------------------------------ cancel

    async def cancel(self, model: ModelName, ids: list[JobId], *, tenant: str = "") -> Sequence[str]:
        self._forget(ids)
        model = self.names.model(model)
        states = await self._stop(model, ids, tenant)
        while set(states) == {"missing"} and (await self._absence(model)).may_return > 0:
            await asyncio.sleep(LOOK_EVERY)  # whoever puts them back must not be the only one who knows
            states = await self._stop(model, ids, tenant)
        return states

    async def _absence(self, model: ModelName) -> jobs.Absence:
        return await retry_while_away(lambda: jobs.absence(self._broker, model), SUBMIT_PATIENCE)

    async def leave(self, model: ModelName, ids: list[JobId]) -> None:
        self._forget(ids)
        if unread := [job for job in ids if not self._hub.reads(job)]:
            await self._stop(self.names.model(model), unread, left=self._gateway)

    def _forget(self, ids: list[JobId]) -> None:
        """Forgets the streams prepared at submit that nobody came to read."""
        for job in ids:
            if job_stream := self._hub.expected(job):
                self._hub.remove(job_stream)

    async def _stop(
        self, model: ModelName, ids: list[JobId], tenant: str = "", left: GatewayId | Literal[""] = ""
    ) -> Sequence[str]:
        backoff = Backoff()
        for _ in range(LEAVE_TRIES):
            try:
                states = await jobs.cancel(self._broker, model, tenant, ids, left)
                log.info("jobs_cancelled", jobs=ids, model=model, states=states)
                self._ended(model, ids)
                return states
            except RedisAway:
                await backoff.sleep()
        log.warning("cancel_failed", jobs=ids, model=model)
        return []
