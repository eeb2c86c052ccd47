"""The real `Dispatch`: requests onto the queue, their chunks back from it."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Literal

import structlog

from common.backoff import Backoff
from common.broker import jobs
from common.broker.chunks import read_log
from common.broker.connect import Broker, RedisAway, RedisFull
from common.broker.directory import model_names
from common.broker.wishes import loading_stage
from common.chunk import NOTHING_YET, Chunk, Seq
from common.errors import (
    Expired,
    IdempotencyConflict,
    LogExpired,
    ModelNotFound,
    NotFound,
    Overloaded,
    StreamLost,
    Unavailable,
)
from common.job import GatewayId, JobId, ModelName
from gateway.allowance import Allowance
from gateway.dispatch import Admission, Offer, Submission, Waiting
from gateway.following import Follower, Origin
from gateway.forecast import Forecast, estimate
from gateway.switchboard import Switchboard

UNKNOWN_WAIT = 5.0  # seconds until a refused client comes back while no service rate is measured
SUBMIT_PATIENCE = 5.0  # seconds a request waits for a Redis that is away before it is told to come back later
LEAVE_TRIES = 5  # tries to cancel the jobs of a client that left; after that the gateway's orphan grace does it

log = structlog.stdlib.get_logger(part="dispatch")


@dataclass(frozen=True, slots=True)
class Terms:
    """What this gateway promises for every request."""

    retention: float = 600.0  # seconds a settled job and its log are kept
    bounds: jobs.Bounds = field(default_factory=jobs.Bounds)


class QueueDispatch:
    """Implements `gateway.dispatch.Dispatch` over Redis."""

    def __init__(
        self, broker: Broker, gateway: GatewayId, switchboard: Switchboard, forecast: Forecast, terms: Terms
    ) -> None:
        self._broker = broker
        self._gateway = gateway
        self._switchboard = switchboard
        self._forecast = forecast
        self._terms = terms
        self._allowance = Allowance(broker)
        self._known: frozenset[str] = frozenset()

    # ------------------------------------------------------------------------------------------------------ submit

    async def submit(self, submission: Submission) -> Admission:
        await self._check_model(submission.model)
        limits = await self._allowance.reserve(submission)
        envelope = self._envelope(submission)
        followers = [
            Follower(submission.model, id, submission.tenant, NOTHING_YET, Origin(request, envelope))
            for id, request in submission.jobs
        ]
        for follower in followers:  # before the call: the first frame may be here before its reply
            self._switchboard.add(follower)
        accepted = False
        try:
            answer = await self._submit(submission, envelope)
            accepted = answer.outcome in ("routed", "queued")
        except IdempotencyConflict:
            await self._allowance.give_back(submission)
            raise
        finally:
            if not accepted:
                for follower in followers:
                    self._switchboard.remove(follower)
        if answer.jobs != [id for id, _ in submission.jobs]:  # refused, or the jobs of an earlier request
            await self._allowance.give_back(submission)
        return replace(await self._admission(submission.model, answer), headers=limits)

    async def _check_model(self, model: ModelName) -> None:
        if model in self._known:
            return
        self._known = frozenset(await model_names(self._broker))
        if model not in self._known:
            there_are = ", ".join(f"`{name}`" for name in sorted(self._known)) or "none yet: no worker has started"
            message = f"The model `{model}` does not exist. Models here: {there_are}."
            raise ModelNotFound(message, param="model")

    def _envelope(self, submission: Submission) -> jobs.Envelope:
        key = submission.idempotency_key
        return jobs.Envelope(
            gateway=self._gateway,
            tenant=submission.tenant,
            tier=submission.tier,
            timeout_ms=int(submission.timeout * 1000),
            retention_ms=int(self._terms.retention * 1000),
            resumable=submission.resumable,
            idempotency_digest=hashlib.sha256(key.encode()).hexdigest()[:32] if key else "",
            fingerprint=submission.fingerprint,
            bounds=self._terms.bounds,
            weight=submission.key.weight if submission.key else 1.0,
            affinity=submission.affinity,
            account=submission.key.id if submission.key else "",
        )

    async def _submit(self, submission: Submission, envelope: jobs.Envelope) -> jobs.Submitted:
        """The ids are ours, so a call whose reply was lost is simply made again."""
        backoff, give_up = Backoff(), monotonic() + SUBMIT_PATIENCE
        new = [jobs.NewJob(id, request) for id, request in submission.jobs]
        while True:
            try:
                answer = await jobs.submit(self._broker, submission.model, envelope, new)
                ours = answer.jobs == [job.id for job in new]  # known already: the reply to an earlier try was lost
                return replace(answer, outcome="routed") if ours and answer.outcome == "duplicate" else answer
            except RedisAway as error:
                if isinstance(error, RedisFull) or monotonic() > give_up:
                    raise
                await backoff.sleep()

    async def _admission(self, model: ModelName, answer: jobs.Submitted) -> Admission:
        match answer.outcome:
            case "refused":
                wait = await self._forecast.wait(model, answer.waiting_jobs) or UNKNOWN_WAIT
                message = (
                    f"The queue for `{model}` is full ({answer.reason}): {answer.waiting_jobs} requests wait. "
                    f"Please try again in {wait:.0f} s."
                )
                raise Overloaded(message, retry_after=wait)
            case "queued":
                service = await self._forecast.service(model)
                if not service.workers:
                    log.warning(
                        "no_worker", model=model, jobs=answer.jobs, waits="until a worker comes or its deadline"
                    )
                wait = estimate(answer.position, service.rate)
                return Admission("queued", answer.jobs, answer.position, wait, service.workers)
            case outcome:
                return Admission(outcome, answer.jobs)

    # ------------------------------------------------------------------------------------------------------ follow

    async def follow(
        self,
        model: ModelName,
        job: JobId,
        *,
        tenant: str,
        after: Seq = NOTHING_YET,
        express: Offer | None = None,
        glance: bool = False,
    ) -> AsyncIterator[list[tuple[Seq, Chunk]]]:
        follower = self._take_up(model, job, tenant, after)
        follower.express, follower.glance = express, glance
        backoff = Backoff()
        try:
            while not follower.ended:
                try:
                    await self._catch_up(follower)
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

    async def _catch_up(self, follower: Follower) -> None:
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
        gateway = "" if follower.glance else self._gateway
        return await jobs.attach(self._broker, follower.model, follower.job, gateway, follower.tenant, have)

    async def _submit_again(self, follower: Follower) -> None:
        """Redis does not know the job. If we submitted it and have all its chunks, it goes on from them."""
        origin, prefix = follower.origin, follower.prefix
        if origin is None or prefix is None:
            what = f"There is no request `{follower.job}`: it never was, or what was kept of it has expired."
            raise LogExpired(what, param="Last-Event-ID") if follower.first > 1 else NotFound(what)
        log.warning("job_submitted_again", job=follower.job, model=follower.model, chunks=len(prefix))
        left = max(1, int(origin.envelope.timeout_ms - (monotonic() - follower.born) * 1000))
        envelope = replace(origin.envelope, timeout_ms=left, idempotency_digest="", bounds=jobs.Bounds())
        again = jobs.NewJob(follower.job, origin.request, prefix, follower.grant)
        await jobs.submit(self._broker, follower.model, envelope, [again])
        follower.unsure = False

    async def waiting(self, model: ModelName, job: JobId) -> Waiting | None:
        try:
            now = await jobs.standing(self._broker, model, job)
            if now.state != "queued":
                return None
            loading = "" if now.workers else await loading_stage(self._broker, model)
            return Waiting(now.ahead + 1, await self._forecast.wait(model, now.ahead + 1), now.workers, loading)
        except Unavailable:
            return None

    # ------------------------------------------------------------------------------------------------------ cancel

    async def cancel(self, model: ModelName, ids: list[JobId], *, tenant: str = "") -> None:
        self._forget(ids)
        await self._stop(model, ids, tenant)

    async def leave(self, model: ModelName, ids: list[JobId]) -> None:
        self._forget(ids)
        if unread := [job for job in ids if not self._switchboard.reads(job)]:
            await self._stop(model, unread, left=self._gateway)

    def _forget(self, ids: list[JobId]) -> None:
        """The streams prepared at submit that nobody came to read."""
        for job in ids:
            if follower := self._switchboard.expected(job):
                self._switchboard.remove(follower)

    async def _stop(
        self, model: ModelName, ids: list[JobId], tenant: str = "", left: GatewayId | Literal[""] = ""
    ) -> None:
        backoff = Backoff()
        for _ in range(LEAVE_TRIES):
            try:
                await jobs.cancel(self._broker, model, tenant, ids, left)
                return
            except RedisAway:
                await backoff.sleep()
        log.warning("cancel_failed", jobs=ids, model=model)
