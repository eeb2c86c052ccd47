"""Workers of one model with different contexts: a long request is answered by one it fits, whoever gets it first."""

import asyncio

from millstream.common.broker.models.directory import model_info
from millstream.common.chunk import Chunk
from millstream.common.job import JobId, JobRequest, Sampling, TextPrompt
from millstream.gateway.queue.client import QueueClient, Submission
from tests.harness.queue_site import MODEL, Site, chunks_of


async def last(queue: QueueClient, id: str, prompt: str, tokens: int = 20) -> Chunk:
    """The last chunk of a job of so many characters, which are as many tokens."""
    request = JobRequest(TextPrompt(prompt), Sampling(max_tokens=tokens, ignore_eos=True))
    await queue.submit(Submission(MODEL, [(JobId(id), request)]))
    return (await chunks_of(queue, JobId(id)))[-1]


async def test_equal_requests_all_go_where_they_fit(site: Site) -> None:
    await site.worker("short", slots=8, context=500)
    await site.worker("long", slots=2, context=20_000)
    queue = await site.gateway()
    ends = await asyncio.gather(*(last(queue, f"j{i}", "x" * 2519) for i in range(8)))
    assert [end.error and end.error.message for end in ends] == [None] * 8
    assert all(end.usage is not None and end.usage.completion == 20 for end in ends)
    assert (await model_info(site.broker, MODEL)).context_length == 20_000


async def test_a_request_too_long_by_its_characters_alone_is_passed_on_too(site: Site) -> None:
    await site.worker("short", context=100)
    queue = await site.gateway()
    assert (await last(queue, "alone", "x" * 2519)).error is not None
    await site.worker("long", context=20_000, slots=1)
    ends = await asyncio.gather(*(last(queue, f"j{i}", "x" * 2519) for i in range(4)))
    assert [end.error for end in ends] == [None] * 4


async def test_a_request_that_fits_nowhere_is_told_of_the_longest_context(site: Site) -> None:
    await site.worker("short", context=500)
    await site.worker("long", context=20_000)
    queue = await site.gateway()
    for number in range(3):
        error = (await last(queue, f"j{number}", "x" * 30_000)).error
        assert error is not None and error.code == "context_length_exceeded"
        assert "maximum context length is 20000 tokens" in error.message
