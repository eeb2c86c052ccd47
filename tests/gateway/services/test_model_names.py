"""A model with several names is reached, followed and listed under each of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import ModelInfo, announce
from millstream.common.errors import ModelNotFound
from millstream.common.job import JobId, ModelName
from millstream.gateway.queue.client import Admission, QueueClient, Submission
from millstream.gateway.queue.sink import ChunkSink, Fold
from millstream.gateway.services.model_names import ModelNames, NamedQueueClient, under_all_names

MODEL = ModelName("qwen3-8b")


class OnlyTheModel:
    """A dispatch that knows the model by its own name alone, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def submit(self, submission: Submission) -> Admission:
        if submission.model != MODEL:
            raise ModelNotFound("no such model")
        return Admission("routed", [])

    async def follow(self, model: ModelName, job: JobId, sink: ChunkSink, **how: object) -> None:
        self.asked.append(("follow", model))

    async def cancel(self, model: ModelName, ids: list[JobId], *, tenant: str = "") -> None:
        self.asked.append(("cancel", model))


@pytest_asyncio.fixture
async def broker(redis_url: str) -> AsyncIterator[Broker]:
    async with Broker(redis_url) as broker:
        yield broker


async def test_a_name_announced_a_moment_ago_is_found_and_an_unknown_one_is_not(broker: Broker) -> None:
    inner = OnlyTheModel()
    queue: QueueClient = NamedQueueClient(inner, ModelNames(broker))  # type: ignore[arg-type]
    with pytest.raises(ModelNotFound):
        await queue.submit(Submission(ModelName("gpt-4o"), []))
    await announce(broker, MODEL, ["gpt-4o"])
    assert (await queue.submit(Submission(ModelName("gpt-4o"), []))).outcome == "routed"
    await queue.follow(ModelName("gpt-4o"), JobId("j"), Fold(print), tenant="t")
    await queue.cancel(ModelName("gpt-4o"), [JobId("j")])
    assert inner.asked == [("follow", MODEL), ("cancel", MODEL)]


def test_listings_show_each_name() -> None:
    listed = under_all_names([ModelInfo(MODEL, [], 3)], {"gpt-4o": MODEL, "gone": ModelName("unknown")})
    assert [(model.name, model.waiting) for model in listed] == [("gpt-4o", 3), (MODEL, 3)]
