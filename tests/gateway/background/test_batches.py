"""The Batch API with the official client: real background and worker processes, simulated tokens."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai.types import Batch
from redis import Redis

from millstream.common.broker.embedded import EmbeddedValkey
from tests.gateway.background.cluster import gateway
from tests.gateway.background.processes import BackgroundProcesses, processes
from tests.harness.support import wait_until

CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(scope="module")
def cluster(module_valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackgroundProcesses]:
    with processes(
        module_valkey.url, tmp_path_factory.mktemp("batches"), batch_lines="400", slice_seconds="1"
    ) as running:
        pace = ["--simulated-rate", "400", "--simulated-length", "8", "--slots", "4"]
        running.start("worker", "worker", "--engine", "simulated", *pace)
        running.start("background", "background")
        yield running


@pytest_asyncio.fixture
async def client(cluster: BackgroundProcesses) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        gateway(cluster.redis_url, cluster.folder / "files") as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        await wait_until(lambda: _served(made), within=60, what="the worker is there")
        yield made


async def _served(client: openai.AsyncOpenAI) -> bool:
    return bool((await client.models.list()).data)


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    asked = {"model": "simulated", "messages": [{"role": "user", "content": custom_id}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": asked}


async def submit(
    client: openai.AsyncOpenAI, lines: list[Any], endpoint: Any = CHAT, window: Any = "24h", **more: Any
) -> Batch:
    text = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in lines)
    file = await client.files.create(file=("input.jsonl", text.encode()), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window=window, **more)


async def end_of(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    async def over() -> Batch | None:
        now = await client.batches.retrieve(batch.id)
        return now if now.status in OVER else None

    found = await wait_until(over, within=90, every=0.1, what="the batch ends")
    assert found is not None
    return found


async def answers(client: openai.AsyncOpenAI, file: str | None) -> list[dict[str, Any]]:
    if file is None:
        return []
    return [json.loads(each) for each in (await client.files.content(file)).text.splitlines()]


async def test_a_batch_from_file_to_file(client: openai.AsyncOpenAI) -> None:
    asked = [line(f"c{n}") for n in range(60)] + [line("bad", previous_response_id="resp_none")]
    asked.append(line("last", max_tokens=2))
    expiry: Any = {"output_expires_after": {"anchor": "created_at", "seconds": 7200}}
    batch = await submit(client, [*asked[:-2], "\n", asked[-1]], **expiry)
    assert (batch.status, batch.object, batch.completion_window) == ("validating", "batch", "24h")
    done = await end_of(client, batch)
    assert done.status == "completed" and done.error_file_id is None and done.errors is None
    assert done.request_counts is not None and done.request_counts.model_dump() == {
        "total": 61, "completed": 61, "failed": 0
    }  # fmt: skip
    assert done.in_progress_at and done.finalizing_at and done.completed_at and not done.failed_at
    given = await answers(client, done.output_file_id)
    assert [each["custom_id"] for each in given] == [f"c{n}" for n in range(60)] + ["last"]
    assert {each["response"]["status_code"] for each in given} == {200} and not any(each["error"] for each in given)
    assert len({each["id"] for each in given}) == 61
    body = given[-1]["response"]["body"]
    assert body["object"] == "chat.completion" and body["usage"]["completion_tokens"] == 2
    assert done.output_file_id is not None
    output = await client.files.retrieve(done.output_file_id)
    assert output.purpose == "batch_output" and output.filename == f"{batch.id}_output.jsonl"
    assert output.expires_at == output.created_at + 7200 and output.created_at == done.finalizing_at


async def test_every_endpoint_and_lines_that_fail(client: openai.AsyncOpenAI) -> None:
    texts = await submit(client, [_text("t", prompt="a"), _text("u", prompt=["b", "c"])], "/v1/completions")
    turn: Any = {"custom_id": "r", "method": "POST", "url": "/v1/responses"}
    turns = await submit(client, [turn | {"body": {"model": "simulated", "input": "hello"}}], "/v1/responses")
    lost = {"model": "simulated", "input": "hello", "previous_response_id": "resp_none"}
    failing = await submit(client, [turn | {"body": lost}], "/v1/responses")
    done = await end_of(client, texts)
    first, second = await answers(client, done.output_file_id)
    assert first["response"]["body"]["object"] == "text_completion"
    assert len(second["response"]["body"]["choices"]) == 2
    [answer] = await answers(client, (await end_of(client, turns)).output_file_id)
    assert answer["response"]["body"]["object"] == "response" and answer["response"]["body"]["status"] == "completed"
    failed = await end_of(client, failing)
    assert failed.status == "completed" and failed.output_file_id is None
    [fault] = await answers(client, failed.error_file_id)
    assert fault["response"]["status_code"] == 400 and fault["custom_id"] == "r"
    assert fault["response"]["body"]["error"]["code"] == "previous_response_not_found"


def _text(custom_id: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": {"model": "simulated", **body}}


async def test_every_bad_line_is_named(client: openai.AsyncOpenAI) -> None:
    lines: list[Any] = [
        line("ok"),
        "not json\n",
        "[1]\n",
        line("ok"),
        line("url", url="/v1/completions"),
        line("method") | {"method": "GET"},
        {"custom_id": "", "method": "POST", "url": CHAT, "body": {}},
        line("body") | {"body": 1},
        line("model", model="other"),
        line("type", temperature="hot"),
        line("value", temperature=9),
        line("stream", stream=True),
        {"custom_id": "fields", "method": "POST", "url": CHAT, "body": {"model": "simulated"}},
    ]
    batch = await end_of(client, await submit(client, lines))
    assert batch.status == "failed" and batch.failed_at and batch.output_file_id is None
    assert batch.errors is not None and batch.errors.data is not None
    assert [(error.line, error.code, error.param) for error in batch.errors.data] == [
        (2, "invalid_json_line", None),
        (3, "invalid_json_line", None),
        (4, "duplicate_custom_id", "custom_id"),
        (5, "mismatched_endpoint", "url"),
        (6, "invalid_method", "method"),
        (7, "invalid_custom_id", "custom_id"),
        (8, "invalid_body", "body"),
        (9, "model_not_found", "body.model"),
        (10, "invalid_type", "body.temperature"),
        (11, "integer_above_max_value", "body.temperature"),
        (12, "invalid_request", "body.stream"),
        (13, "missing_required_parameter", "body.messages"),
    ]
    assert all(error.message for error in batch.errors.data)


async def test_files_that_are_no_batch(client: openai.AsyncOpenAI) -> None:
    for lines, code in (([" \n\n"], "empty_file"), ([line(f"{n}") for n in range(401)], "too_many_tasks")):
        batch = await end_of(client, await submit(client, lines))
        assert batch.errors is not None and batch.errors.data is not None
        assert (batch.status, batch.errors.data[0].code) == ("failed", code)
    other = await client.files.create(file=b"{}", purpose="user_data")
    for wrong in ({"input_file_id": other.id}, {"input_file_id": "file-none"}):
        with pytest.raises(openai.BadRequestError, match="input_file_id"):
            await client.batches.create(endpoint=CHAT, completion_window="24h", **wrong)
    window: Any = "soon"
    with pytest.raises(openai.BadRequestError, match="completion_window"):
        await submit(client, [line("a")], window=window)
    with pytest.raises(openai.NotFoundError):
        await client.batches.retrieve("batch_none")


async def test_lists_are_paged(client: openai.AsyncOpenAI) -> None:
    made = [(await submit(client, [line("a")])).id for _ in range(3)]
    listed = [batch.id async for batch in client.batches.list(limit=2)]
    assert set(made) <= set(listed) and len(listed) == len(set(listed))
    for each in made:
        await end_of(client, await client.batches.retrieve(each))


async def test_cancelling_keeps_what_is_there(client: openai.AsyncOpenAI, cluster: BackgroundProcesses) -> None:
    lines = [line(f"c{n}", max_tokens=40, ignore_eos=True) for n in range(300)]
    batch = await submit(client, lines)
    await wait_until(lambda: _completed(client, batch, 5), within=60, every=0.05, what="it has begun")
    asked = await client.batches.cancel(batch.id)
    assert asked.status in ("cancelling", "cancelled") and asked.cancelling_at
    ended = await end_of(client, batch)
    assert ended.status == "cancelled" and ended.cancelled_at
    good = await answers(client, ended.output_file_id)
    undone = await answers(client, ended.error_file_id)
    assert len(good) >= 5 and {each["error"]["code"] for each in undone if each["error"]} == {"batch_cancelled"}
    assert sorted(each["custom_id"] for each in good + undone) == sorted(each["custom_id"] for each in lines)
    assert (await client.batches.cancel(batch.id)).status == "cancelled"
    with Redis.from_url(cluster.redis_url, decode_responses=True) as redis:
        await wait_until(lambda: not redis.zcard("ms:{simulated}:deadlines"), what="no job of it is left")
        assert not redis.keys("*:results") and not redis.keys("*:parts")


async def _completed(client: openai.AsyncOpenAI, batch: Batch, least: int) -> bool:
    counts = (await client.batches.retrieve(batch.id)).request_counts
    return counts is not None and counts.completed >= least


async def test_a_window_that_ends(client: openai.AsyncOpenAI) -> None:
    lines = [line(f"c{n}", max_tokens=100, ignore_eos=True) for n in range(200)]
    batch = await end_of(client, await submit(client, lines, window="4s"))
    assert batch.status == "expired" and batch.expired_at
    good, undone = await answers(client, batch.output_file_id), await answers(client, batch.error_file_id)
    assert undone and {each["error"]["code"] for each in undone if each["error"]} == {"batch_expired"}
    assert sorted(each["custom_id"] for each in good + undone) == sorted(each["custom_id"] for each in lines)


async def test_a_deleted_input_ends_the_batch(client: openai.AsyncOpenAI) -> None:
    batch = await submit(client, [line(f"c{n}", max_tokens=40, ignore_eos=True) for n in range(380)])
    await wait_until(lambda: _completed(client, batch, 5), within=60, every=0.05, what="it has begun")
    await client.files.delete(batch.input_file_id)
    ended = await end_of(client, batch)
    assert ended.errors is not None and ended.errors.data is not None and ended.request_counts is not None
    assert (ended.status, ended.errors.data[0].code, ended.error_file_id) == ("failed", "input_file_gone", None)
    given = [each["custom_id"] for each in await answers(client, ended.output_file_id)]
    assert len(given) == ended.request_counts.completed >= 5 and len(set(given)) == len(given)


async def test_several_processes_share_the_work(client: openai.AsyncOpenAI, cluster: BackgroundProcesses) -> None:
    cluster.start("second", "background")
    await wait_until(lambda: "background_started" in cluster.log("second"), within=60, what="it has started")
    batches = [await submit(client, [line(f"{n}-{at}") for at in range(40)]) for n in range(4)]
    ended = await asyncio.gather(*(end_of(client, batch) for batch in batches))
    assert {batch.status for batch in ended} == {"completed"}
    for batch in ended:
        assert len(await answers(client, batch.output_file_id)) == 40
    assert cluster.stop("second") == 0


def test_nothing_lives_for_ever(cluster: BackgroundProcesses) -> None:
    with Redis.from_url(cluster.redis_url, decode_responses=True) as redis:
        immortal = [key for key in redis.keys("ms:*batch*") if redis.pttl(key) < 0]
    assert immortal == []
