"""A job before its first step: its own mistakes are its own, and nothing goes on without it."""

import asyncio
from typing import Any

import pytest

from millstream.common.broker import jobs
from millstream.common.broker.models.directory import model_info
from millstream.common.job import ChatPrompt, Guide, JobId, JobRequest, Sampling, ToolUse
from millstream.gateway.queue.client import Submission
from millstream.gateway.queue.redis_client import RedisQueueClient
from millstream.worker.engines.base import Shown
from millstream.worker.engines.simulated.engine import SimulatedEngine
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.jobs.circuit_breaker import TOLERATED
from tests.harness.queue_site import MODEL, Site, chunks_of
from tests.harness.support import wait_until

USER = [{"role": "user", "content": "hi"}]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def tool(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "book", "parameters": parameters}}]


def called(arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "book", "arguments": arguments}}]}


MISTAKES = {
    "deep tools": JobRequest(ChatPrompt(USER, tool(nested(300))), tool_use=ToolUse("required")),
    "deep arguments": JobRequest(ChatPrompt([*USER, called("[" * 100_000)], tool({}))),
    "long grammar": JobRequest(ChatPrompt(USER), guide=Guide("regex", "a" * 100_000, "guided_regex")),
    "many choices": JobRequest(ChatPrompt(USER), guide=Guide("choice", str(["a"] * 60_000).replace("'", '"'))),
}


async def failure(dispatch: RedisQueueClient, id: str, wanted: JobRequest) -> tuple[str, str, str | None]:
    """Code, message and parameter of the error a job ends with."""
    await dispatch.submit(Submission(MODEL, [(JobId(id), wanted)]))
    error = (await chunks_of(dispatch, JobId(id)))[-1].error
    assert error is not None, "it did not fail"
    return error.code, error.message, error.param


@pytest.mark.parametrize(
    ("mistake", "code", "message", "param"),
    [
        ("deep tools", "invalid_grammar", "`book` is", "tools[0].function.parameters"),
        ("deep arguments", "invalid_request", "nest too deeply", "messages"),
        ("long grammar", "invalid_grammar", "100000 characters", "guided_regex"),
        ("many choices", "invalid_grammar", "60000 strings", "response_format"),
    ],
)
async def test_a_clients_mistake_never_makes_the_worker_sick(
    site: Site, monkeypatch: pytest.MonkeyPatch, mistake: str, code: str, message: str, param: str
) -> None:
    monkeypatch.setattr(SimulatedTokenizer, "shown", Shown(False, False, False))  # calls are told in words: read again
    service = await site.worker("w")
    dispatch = await site.gateway()
    for number in range(TOLERATED + 1):
        told = await failure(dispatch, f"{mistake}-{number}", MISTAKES[mistake])
        assert told[0] == code and message in told[1] and told[2] == param
    assert service._runner.health.errors == 0
    [worker] = (await model_info(site.broker, MODEL)).workers
    assert worker.details["state"] == "ready"


async def test_a_job_that_is_cancelled_while_its_guide_is_compiled_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def never(self: SimulatedEngine, guide: Guide, tenant: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(tenant)

    monkeypatch.setattr(SimulatedEngine, "compile", never)
    service = await site.worker("w", slots=1)
    await site.put("free")
    await wait_until(lambda: _state(site, "free", "finished"))
    wanted = JobRequest(ChatPrompt(USER), Sampling(max_tokens=4), guide=Guide("json_object"))
    dispatch = await site.gateway()
    await dispatch.submit(Submission(MODEL, [(JobId("guided"), wanted)], tenant="acme"))
    await begun.wait()
    await jobs.cancel(site.broker, MODEL, "acme", [JobId("guided")])
    await wait_until(lambda: _state(site, "guided", "cancelled"))
    await site.put("next")
    await wait_until(lambda: _state(site, "next", "finished"))
    assert ended == ["acme"]
    await wait_until(lambda: not len(service._running_jobs))


async def _state(site: Site, id: str, state: str) -> bool:
    return (await site.job(id))["state"] == state


async def test_a_turn_ends_where_its_chat_template_says(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that is chosen by name has stop strings."""
    monkeypatch.setattr(SimulatedTokenizer, "stops", ("###",), raising=False)
    dispatch = await site.gateway()
    await site.worker("w")
    said = ChatPrompt([{"role": "user", "content": 'script: {"text": "one ### two"}'}])
    await dispatch.submit(Submission(MODEL, [(JobId("chat"), JobRequest(said, Sampling(max_tokens=50)))]))
    chat = await chunks_of(dispatch, JobId("chat"))
    assert "".join(chunk.text for chunk in chat) == "one "
    assert (chat[-1].finish, chat[-1].stopped_by) == ("stop", "###")
