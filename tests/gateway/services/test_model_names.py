"""A model with several names is reached, followed and listed under each of them."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import ModelInfo, announce, census, forget_model, other_names
from millstream.common.broker.workers import beat, withdraw
from millstream.common.errors import ModelNotFound
from millstream.common.job import GatewayId, JobId, ModelName, WorkerId
from millstream.gateway.queue.client import Admission, QueueClient, Submission
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.redis_client import RedisQueueClient, Terms
from millstream.gateway.queue.wait_estimate import WaitEstimator
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

    def follow(self, model: ModelName, job: JobId, **how: object) -> None:
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
    queue.follow(ModelName("gpt-4o"), JobId("j"), tenant="t")
    await queue.cancel(ModelName("gpt-4o"), [JobId("j")])
    assert inner.asked == [("follow", MODEL), ("cancel", MODEL)]


def test_listings_show_each_name() -> None:
    listed = under_all_names([ModelInfo(MODEL, [], 3)], {"gpt-4o": MODEL, "gone": ModelName("unknown")})
    assert [(model.name, model.waiting) for model in listed] == [("gpt-4o", 3), (MODEL, 3)]


async def working(broker: Broker, name: str, *others: str) -> WorkerId:
    """A worker of that model in its first heartbeat."""
    worker = WorkerId(f"worker-of-{name}")
    await announce(broker, ModelName(name), others)
    about = {"slots": "1", "state": "ready", "names": json.dumps(others)}
    await beat(broker, ModelName(name), worker, 60_000, about, [])
    return worker


async def test_a_models_own_name_goes_before_another_models_other_name(broker: Broker) -> None:
    old = await working(broker, "old", "gpt-4o")
    assert await other_names(broker) == {"gpt-4o": "old"}
    await withdraw(broker, ModelName("old"), old)
    assert await other_names(broker) == {"gpt-4o": "old"}  # a model without workers waits for one under all its names
    await working(broker, "gpt-4o")
    assert await other_names(broker) == {}
    listed = under_all_names(await census(broker), await other_names(broker))
    assert [(model.name, model.live) for model in listed] == [("gpt-4o", 1), ("old", 0)]


async def test_a_name_goes_with_the_last_worker_that_announces_it(broker: Broker) -> None:
    await working(broker, "model", "first", "second")
    assert await other_names(broker) == {"first": "model", "second": "model"}
    await working(broker, "model", "second")
    assert await other_names(broker) == {"second": "model"}


async def test_a_forgotten_model_takes_its_names_with_it_and_nobody_is_told_of_it(broker: Broker) -> None:
    old = await working(broker, "old", "gpt-4o")
    names = ModelNames(broker)
    assert (await names.refresh())["gpt-4o"] == "old"
    await withdraw(broker, ModelName("old"), old)
    await forget_model(broker, ModelName("old"))
    assert await other_names(broker) == {}
    inner = RedisQueueClient(broker, GatewayId("g"), FrameHub(), WaitEstimator(broker), Terms())
    queue = NamedQueueClient(inner, names)
    with pytest.raises(ModelNotFound, match="`gpt-4o` does not exist"):
        await queue.submit(Submission(ModelName("gpt-4o"), []))
