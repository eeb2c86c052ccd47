"""A model with several names is reached, followed and listed under each of them."""

import json
from dataclasses import replace

import pytest

from millstream.common.broker.models.directory import ModelInfo, announce, census, forget_model, other_names
from millstream.common.broker.workers import beat, withdraw
from millstream.common.errors import ModelNotFound
from millstream.common.job import ModelName, WorkerId
from millstream.gateway.queue.model_names import under_all_names
from millstream.gateway.queue.sink import CallbackSink
from tests.harness.queue_site import MODEL, Site

OTHER = ModelName("gpt-4o")


async def test_a_name_announced_a_moment_ago_is_found_and_an_unknown_one_is_not(site: Site) -> None:
    await site.worker("w1")
    queue = await site.gateway()
    submission = replace(site.submission(tokens=4, tenant="acme"), model=OTHER)
    [(job, _)] = submission.jobs
    with pytest.raises(ModelNotFound):
        await queue.submit(submission)
    await site.worker("w2", served_model_name=[MODEL, OTHER])
    assert (await queue.submit(submission)).outcome == "routed"
    tokens: list[int] = []
    await queue.follow(OTHER, job, CallbackSink(lambda chunk: tokens.extend(chunk.ids)), tenant="acme")
    logged = await queue.logged(OTHER, job, tenant="acme")
    assert len(tokens) == 4 and [token for _, chunk in logged for token in chunk.ids] == tokens
    assert await queue.cancel(OTHER, [job], tenant="acme") == ["finished"]


def test_listings_show_each_name() -> None:
    listed = under_all_names([ModelInfo(MODEL, [], 3)], {OTHER: MODEL, "gone": ModelName("unknown")})
    assert [(model.name, model.waiting) for model in listed] == [(OTHER, 3), (MODEL, 3)]


async def working(site: Site, name: str, *others: str) -> WorkerId:
    """A worker of that model in its first heartbeat."""
    worker = WorkerId(f"worker-of-{name}")
    await announce(site.broker, ModelName(name), others)
    about = {"slots": "1", "state": "ready", "names": json.dumps(others)}
    await beat(site.broker, ModelName(name), worker, 60_000, about, [])
    return worker


async def test_a_models_own_name_goes_before_another_models_other_name(site: Site) -> None:
    old = await working(site, "old", "gpt-4o")
    assert await other_names(site.broker) == {"gpt-4o": "old"}
    await withdraw(site.broker, ModelName("old"), old)
    assert await other_names(site.broker) == {"gpt-4o": "old"}  # it waits for a worker by all its names
    await working(site, "gpt-4o")
    assert await other_names(site.broker) == {}
    listed = under_all_names(await census(site.broker), await other_names(site.broker))
    assert [(model.name, model.live) for model in listed] == [("gpt-4o", 1), ("old", 0)]


async def test_a_name_goes_with_the_last_worker_that_announces_it(site: Site) -> None:
    await working(site, "model", "first", "second")
    assert await other_names(site.broker) == {"first": "model", "second": "model"}
    await working(site, "model", "second")
    assert await other_names(site.broker) == {"second": "model"}


async def test_a_forgotten_model_takes_its_names_with_it_and_nobody_is_told_of_it(site: Site) -> None:
    old = await working(site, "old", OTHER)
    queue = await site.gateway()
    assert (await queue.names.refresh())[OTHER] == "old"
    await withdraw(site.broker, ModelName("old"), old)
    await forget_model(site.broker, ModelName("old"))
    assert await other_names(site.broker) == {}
    with pytest.raises(ModelNotFound, match="`gpt-4o` does not exist"):
        await queue.submit(replace(site.submission(), model=OTHER))
