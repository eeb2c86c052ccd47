"""A model with several names is reached, followed and listed under each of them."""

from dataclasses import replace

import pytest

from millstream.common.broker.models.directory import ModelInfo, announce
from millstream.common.errors import ModelNotFound
from millstream.common.job import ModelName
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
    await announce(site.broker, MODEL, [OTHER])
    assert (await queue.submit(submission)).outcome == "routed"
    tokens: list[int] = []
    await queue.follow(OTHER, job, CallbackSink(lambda chunk: tokens.extend(chunk.ids)), tenant="acme")
    logged = await queue.logged(OTHER, job, tenant="acme")
    assert len(tokens) == 4 and [token for _, chunk in logged for token in chunk.ids] == tokens
    assert await queue.cancel(OTHER, [job], tenant="acme") == ["finished"]


def test_listings_show_each_name() -> None:
    listed = under_all_names([ModelInfo(MODEL, [], 3)], {OTHER: MODEL, "gone": ModelName("unknown")})
    assert [(model.name, model.waiting) for model in listed] == [(OTHER, 3), (MODEL, 3)]
