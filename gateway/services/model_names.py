"""Several names for one model, as its workers announce them: any of them reaches its queue."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.models.directory import ModelInfo, other_names
from millstream.common.chunk import NOTHING_YET, Chunk, Seq
from millstream.common.errors import ModelNotFound
from millstream.common.job import JobId, ModelName
from millstream.common.process.backoff import Backoff
from millstream.gateway.queue.client import Admission, DirectSink, QueueClient, Submission, Waiting

REFRESH = 1.0  # seconds between two looks at the names


class ModelNames:
    """The other names of models, as last read."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._names: Mapping[str, ModelName] = {}

    def model(self, name: ModelName) -> ModelName:
        """Returns the model called so; a name nobody announced stands for itself."""
        return self._names.get(name, name)

    async def refresh(self) -> Mapping[str, ModelName]:
        """Reads the names now. Raises `RedisAway`."""
        self._names = await other_names(self._broker)
        return self._names

    async def watch(self) -> None:
        """Reads the names again and again; ends by cancellation only."""
        backoff = Backoff(most=REFRESH)
        while True:
            try:
                await self.refresh()
                await asyncio.sleep(REFRESH)
            except RedisAway:
                await backoff.sleep()


def under_all_names(models: Sequence[ModelInfo], names: Mapping[str, ModelName]) -> list[ModelInfo]:
    """Returns each model once under each of its names, sorted by name; no name twice."""
    by_name = {model.name: model for model in models}
    others = [replace(by_name[model], name=ModelName(name)) for name, model in names.items() if model in by_name]
    shown = by_name | {model.name: model for model in others}
    return sorted(shown.values(), key=lambda model: model.name)


def _as(submission: Submission, model: ModelName) -> Submission:
    """Returns the submission by the model's own name."""
    return submission if submission.model == model else replace(submission, model=model)


class NamedQueueClient:
    """Implements `QueueClient`: the inner one, asked by any of a model's names."""

    def __init__(self, inner: QueueClient, names: ModelNames) -> None:
        self._inner = inner
        self._names = names

    async def submit(self, submission: Submission) -> Admission:
        model = self._names.model(submission.model)
        try:
            return await self._inner.submit(_as(submission, model))
        except ModelNotFound:
            now = (await self._names.refresh()).get(submission.model, submission.model)  # another since a moment ago?
            if now == model:
                raise
            return await self._inner.submit(_as(submission, now))

    def follow(
        self,
        model: ModelName,
        job: JobId,
        *,
        tenant: str,
        after: Seq = NOTHING_YET,
        direct: DirectSink | None = None,
    ) -> AsyncIterator[list[tuple[Seq, Chunk]]]:
        return self._inner.follow(self._names.model(model), job, tenant=tenant, after=after, direct=direct)

    async def logged(
        self, model: ModelName, job: JobId, *, tenant: str, after: Seq = NOTHING_YET, most: int | None = None
    ) -> list[tuple[Seq, Chunk]]:
        return await self._inner.logged(self._names.model(model), job, tenant=tenant, after=after, most=most)

    def waiting(self, job: JobId) -> Waiting | None:
        return self._inner.waiting(job)

    async def cancel(self, model: ModelName, ids: list[JobId], *, tenant: str = "") -> Sequence[str]:
        return await self._inner.cancel(self._names.model(model), ids, tenant=tenant)

    async def leave(self, model: ModelName, ids: list[JobId]) -> None:
        await self._inner.leave(self._names.model(model), ids)
