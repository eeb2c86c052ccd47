"""The operator's view of the cluster: one look at everything, jobs by page and one by one, API keys."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from millstream.common.broker import jobs
from millstream.common.broker.accounts.keyring import ApiKey, digest, key_of, list_keys, revoke_key, store_key
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.by_server import ask, look_at_each
from millstream.common.broker.models.directory import model_names
from millstream.common.broker.models.ended_jobs import EndedJob, ended_page
from millstream.common.broker.models.inspection import DeadJob, LiveJob, dead_jobs
from millstream.common.broker.models.job_pages import (
    FROM_THE_START,
    JobFilter,
    JobLife,
    cursor_of,
    job_life,
    jobs_page,
)
from millstream.common.broker.models.overview import Overview, overview
from millstream.common.broker.models.preempted_jobs import PreemptedJob, preempted_page
from millstream.common.chunk import NOTHING_YET
from millstream.common.errors import BadRequest, NotFound
from millstream.common.job import GatewayId, JobId, ModelName
from millstream.common.request_id import checksum, request_of
from millstream.gateway.queue.client import Waiting
from millstream.gateway.queue.wait_estimate import WaitEstimator

KNOWN_MS = 15_000  # for so long this gateway counts as living after it has asked where jobs stand
Listed = TypeVar("Listed")
ASKED_AT_ONCE = 64  # jobs whose places one call looks up


@dataclass(frozen=True, slots=True)
class JobsPage(Generic[Listed]):
    """Jobs of several models. `away`: why the jobs of a model could not be looked at."""

    jobs: list[Listed]
    away: dict[ModelName, str]


@dataclass(frozen=True, slots=True)
class Operations:
    """Implemented on Redis alone; nothing here is remembered between two calls."""

    broker: Broker
    gateway: GatewayId
    wait_estimator: WaitEstimator

    async def look(self) -> Overview:
        """Returns the cluster as it is now. Raises `Unavailable`."""
        return await overview(self.broker)

    # -------------------------------------------------------------------------------------------------------- jobs

    async def find(self, id: str, tenant: str) -> JobLife:
        """Returns a job, of any tenant if `tenant` is empty. Raises `NotFound`, also for another tenant's."""
        models, away = await self._models_of(id), dict[Broker, RedisAway]()
        for model in models:
            server = self.broker.of(model)
            if server in away:
                continue
            try:
                life = await ask(self.broker, server, partial(job_life, self.broker, model, JobId(id)))
            except RedisAway as error:
                away[server] = error
                continue
            if life is not None and tenant in ("", life.tenant):
                return life
        for error in away.values():
            raise error  # it may lie there
        raise _unknown(id)

    async def _models_of(self, id: str) -> list[ModelName]:
        """Returns the models whose job it may be, the likeliest first: an id hints at the name that was asked for,
        which may be another name of the model."""
        models = await model_names(self.broker)
        try:
            hint = request_of(id).model
        except NotFound:
            return models
        return sorted(models, key=lambda model: checksum(model) != hint)

    async def page(
        self, models: list[ModelName], wanted: JobFilter, after: str | None, limit: int
    ) -> JobsPage[LiveJob]:
        """Returns up to `limit` live jobs of these models, one model after the other, in each the next to reach its
        deadline first. Raises `BadRequest` for an unknown `after`."""
        last = await self._last_listed(after, wanted.tenant)
        cursor = await cursor_of(self.broker, last.model, last.id) if last else None

        def look(model: ModelName, room: int) -> Awaitable[list[LiveJob]]:
            begin = cursor if last and cursor and model == last.model else FROM_THE_START
            return jobs_page(self.broker, model, wanted, begin, room)

        return await self._walk(_from(models, last), limit, look)

    async def ended(
        self, models: list[ModelName], wanted: JobFilter, after: str | None, limit: int
    ) -> JobsPage[EndedJob]:
        """Returns up to `limit` jobs of these models that ended and are kept, one model after the other, in each the
        newest first. Raises `BadRequest` for an unknown `after`."""
        last = await self._last_listed(after, wanted.tenant)

        def look(model: ModelName, room: int) -> Awaitable[list[EndedJob]]:
            begin = last.id if last and model == last.model else None
            return ended_page(self.broker, model, wanted, begin, room)

        return await self._walk(_from(models, last), limit, look)

    async def _walk(
        self, models: list[ModelName], limit: int, look: Callable[[ModelName, int], Awaitable[list[Listed]]]
    ) -> JobsPage[Listed]:
        """Looks at one model after the other until `limit` jobs are found. A server that is away costs its own models
        only; of home it raises `RedisAway`."""
        found: JobsPage[Listed] = JobsPage([], {})
        away: dict[Broker, RedisAway] = {}
        for model in models:
            server = self.broker.of(model)
            try:
                if server not in away:
                    room = limit - len(found.jobs)
                    found.jobs.extend(await ask(self.broker, server, partial(look, model, room)))
            except RedisAway as error:
                if server is self.broker:
                    raise
                away[server] = error
            if server in away:
                found.away[model] = away[server].message
            if len(found.jobs) >= limit:
                break
        return found

    async def preempted(
        self, models: list[ModelName], tenant: str, after: str | None, limit: int
    ) -> JobsPage[PreemptedJob]:
        """Returns up to `limit` jobs of these models that gave up their slots, one model after the other, in each the
        one that did so last first. Raises `BadRequest` for an unknown `after`."""
        last = await self._last_listed(after, tenant)

        def look(model: ModelName, room: int) -> Awaitable[list[PreemptedJob]]:
            begin = last.id if last and model == last.model else None
            return preempted_page(self.broker, model, tenant, begin, room)

        return await self._walk(_from(models, last), limit, look)

    async def _last_listed(self, after: str | None, tenant: str) -> JobLife | None:
        if after is None:
            return None
        try:
            return await self.find(after, tenant)
        except NotFound as error:
            raise BadRequest(f"Invalid 'after': {error.message}", param="after") from error

    async def places(self, listed: list[LiveJob]) -> dict[JobId, Waiting]:
        """Returns where those of these jobs that wait stand in their queues, and for how long."""
        found: dict[JobId, Waiting] = {}
        for model in {job.model for job in listed}:
            ids = [job.id for job in listed if job.model == model and job.state == "queued"]
            for at in range(0, len(ids), ASKED_AT_ONCE):
                found |= await self._places(model, ids[at : at + ASKED_AT_ONCE])
        return found

    async def _places(self, model: ModelName, ids: list[JobId]) -> dict[JobId, Waiting]:
        asked = [(id, NOTHING_YET) for id in ids]
        told = await jobs.watch(self.broker, model, self.gateway, KNOWN_MS, asked)
        service = await self.wait_estimator.service(model)
        return {id: service.waiting(place.ahead + 1) for id, place in told.items() if place.ahead >= 0}

    async def cancel(self, life: JobLife) -> str:
        """Stops a job. Returns its state afterwards."""
        states = await jobs.cancel(self.broker, life.model, "", [life.id])
        return states[0]

    async def recall(self, life: JobLife) -> str:
        """Asks for a running job back. Returns `requeueing`, or the state of a job that does not run."""
        return await jobs.recall(self.broker, life.model, "", life.id)

    async def dead(self, models: list[ModelName], tenant: str) -> JobsPage[DeadJob]:
        """Returns the jobs that killed their workers, of any tenant if `tenant` is empty, the newest first."""
        seen, away = await look_at_each(self.broker, models, partial(dead_jobs, self.broker))
        found = [each for dead in seen.values() for each in dead if tenant in ("", each.tenant)]
        why = {model: error.message for model, error in away.items()}
        return JobsPage(sorted(found, key=lambda each: -each.when), why)

    # -------------------------------------------------------------------------------------------------------- keys

    async def keys(self) -> list[ApiKey]:
        """Returns all API keys, the oldest first."""
        return list((await list_keys(self.broker)).values())

    async def keep_key(self, key: str, record: ApiKey) -> None:
        """Stores a new key."""
        await store_key(self.broker, digest(key), record)

    async def change_key(self, record: ApiKey) -> None:
        """Stores a key's record anew. Raises `NotFound`."""
        fingerprint, _ = await key_of(self.broker, record.id)
        await store_key(self.broker, fingerprint, record)

    async def key(self, identity: str) -> ApiKey:
        """Raises `NotFound`."""
        return (await key_of(self.broker, identity))[1]

    async def revoke(self, identity: str) -> ApiKey:
        """Revokes a key. Raises `NotFound`."""
        return await revoke_key(self.broker, identity)


def _from(models: list[ModelName], last: JobLife | None) -> list[ModelName]:
    """Returns the models from that of the job that was listed last; all of them if it is none of them."""
    return models[models.index(last.model) :] if last and last.model in models else models


def _unknown(id: str) -> NotFound:
    return NotFound(f"There is no job '{id[:80]}': it never was, or what was kept of it has expired.", param="id")
