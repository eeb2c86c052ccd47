"""Going on with a stream: by Last-Event-ID or Idempotency-Key, on any gateway, exactly."""

import asyncio
from functools import partial
from typing import Any

import httpx
import openai
import pytest

from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import StreamLost
from millstream.common.request_id import request_of
from millstream.gateway.requests.admitted import AdmittedRequest, chunk_after
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster, failed, said
from tests.harness.support import wait_until

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
CHAT = "/v1/chat/completions"


def place(event: str) -> str:
    """An event's id."""
    return event.split("\n")[0].removeprefix("id: ")


async def test_from_every_place(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    whole = (await http.post(CHAT, json=ASK)).text
    events = whole.split("\n\n")
    async with gateway(cluster) as other, httpx.AsyncClient(base_url=other) as elsewhere:
        for index, event in enumerate(events[:-2]):
            rest = await elsewhere.post(CHAT, json=ASK, headers={"Last-Event-ID": place(event)})
            assert rest.text == "\n\n".join(events[index + 1 :]), f"after {place(event)}"
    assert len(cluster.queue.submissions) == 1


async def test_several_choices_from_every_place(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    asked = ASK | {"n": 3, "seed": 1}
    cluster.queue.script = lambda request: said("a", "b", f"{request.sampling.seed}")
    events = (await http.post(CHAT, json=asked)).text.split("\n\n")
    for index, event in enumerate(events[:-2]):
        rest = await http.post(CHAT, json=asked, headers={"Last-Event-ID": place(event)})
        had = sorted(one.split("\ndata: ")[1] for one in events[: index + 1])
        got = sorted(one.split("\ndata: ")[1] for one in rest.text.split("\n\n")[:-2])
        assert sorted(had + got) == sorted(one.split("\ndata: ")[1] for one in events[:-2])
    assert len(cluster.queue.submissions) == 1


async def test_while_it_is_being_written(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.at_first = 3
    headers = {"Idempotency-Key": "mine"}
    async with http.stream("POST", CHAT, json=ASK, headers=headers) as first:
        lines = [line async for line in _until(first, "wor")]
    await wait_until(lambda: cluster.queue.job_streams == 0, what="the first connection is gone")
    resumed = asyncio.create_task(http.post(CHAT, json=ASK, headers={"Last-Event-ID": lines[-1]}))
    await wait_until(lambda: cluster.queue.job_streams == 1, what="the stream is followed again")
    await cluster.queue.advance(9)
    text = (await resumed).text
    assert '"ld"' in text and '" wor"' not in text and text.endswith("data: [DONE]\n\n")
    assert cluster.queue.cancelled == []


async def _until(response: httpx.Response, word: str) -> Any:
    """The ids of a stream's events up to the one with the word."""
    found = ""
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            found = line.removeprefix("id: ")
        if word in line:
            yield found
            return


async def test_idempotency_key(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": ASK["messages"]}
    mine = {"Idempotency-Key": "k-1"}
    first = await client.chat.completions.create(**asked, extra_headers=mine)
    again = await client.chat.completions.create(**asked, extra_headers=mine)
    assert again == first and len(cluster.queue.submissions) == 1
    stream = await client.chat.completions.create(**asked, stream=True, extra_headers=mine)
    assert {chunk.id async for chunk in stream} == {first.id}
    with pytest.raises(openai.ConflictError) as caught:
        await client.chat.completions.create(**asked, temperature=0.5, extra_headers=mine)
    assert caught.value.code == "idempotency_conflict"


async def test_a_retry_after_a_cancelled_try_is_answered(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    """The SDK gives up a slow request, whose job is then cancelled, and asks again with the same key."""
    for stream in (False, True):
        key = {"Idempotency-Key": f"stainless-python-retry-{stream}"}
        cluster.queue.at_first = 2
        first = asyncio.create_task(http.post(CHAT, json=ASK | {"stream": stream} | NO_OPTIONS, headers=key))
        await wait_until(lambda: cluster.queue.job_streams, what="the job is followed")
        first.cancel()
        await wait_until(lambda stream=stream: len(cluster.queue.cancelled) == 1 + stream, what="it is cancelled")
        cluster.queue.at_first = None
        retry = await http.post(CHAT, json=ASK | {"stream": stream} | NO_OPTIONS, headers=key)
        assert retry.status_code == 200 and "ld" in retry.text and "error" not in retry.text


async def test_resumed_an_error_there_is_that_error_again_and_no_good_end(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    cluster.queue.script = lambda _: [*said("a")[:2], failed("engine_error", "It broke.")]
    text = (await http.post(CHAT, json=ASK)).text
    last = [line[4:] for line in text.splitlines() if line.startswith("id: ")][-1]
    resumed = await http.post(CHAT, json=ASK, headers={"Last-Event-ID": last})
    for answer in (text, resumed.text):
        assert answer.count('"code":"engine_error"') == 1 and "[DONE]" not in answer


async def test_what_the_client_has_had_is_looked_up_and_never_missed_in_silence(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    await http.post(CHAT, json=ASK | {"stream": False} | NO_OPTIONS)
    [(id, job)] = cluster.queue.jobs.items()
    ticket = AdmittedRequest(request_of(id), MODEL, job.submission.tenant, "default", [id], [NOTHING_YET])
    find = partial(chunk_after, cluster.queue, ticket, 0)
    for after, chunk in enumerate(job.script):
        assert await find(Seq(after)) == (after + 1, chunk)
    last = Seq(len(job.script))
    assert await find(last) is None  # the usage event's place
    with pytest.raises(StreamLost):
        await find(Seq(last + 1))
    for job.happened in range(last):  # the log has lost the end that the client has read
        with pytest.raises(StreamLost):
            await find(Seq(job.happened))


NO_OPTIONS: dict[str, Any] = {"stream_options": None}


async def test_places_that_are_none(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    [job] = [place((await http.post(CHAT, json=ASK)).text).split(":")[0]]
    wrong = [
        ("nonsense", 400),
        (f"{job}:1.2", 400),
        (f"{job}:x", 400),
        ("chatcmpl-" + "0" * 32 + ":1", 400),
        ("other-" + "0" * 32 + ":1", 404),
        (job[:-1] + ("0" if job[-1] != "0" else "1") + ":1", 404),
        ("chatcmpl-00000001" + job[17:] + ":1", 410),  # made long ago
    ]
    for value, status in wrong:
        response = await http.post(CHAT, json=ASK, headers={"Last-Event-ID": value})
        assert response.status_code == status, value
        assert "error" in response.json()


async def test_a_stream_belongs_to_its_tenant(cluster: ScriptedCluster) -> None:
    keys = ["a:sk-aaaaaaaaaaaaaaaa", "b:sk-bbbbbbbbbbbbbbbb"]
    async with gateway(cluster, api_keys=keys) as url, httpx.AsyncClient(base_url=url) as http:
        mine, other = ({"Authorization": f"Bearer {key[2:]}"} for key in keys)
        first = place((await http.post(CHAT, json=ASK, headers=mine)).text)
        stolen = await http.post(CHAT, json=ASK, headers=other | {"Last-Event-ID": first})
        assert stolen.status_code == 404
        await http.post(f"/v1/requests/{first.split(':')[0]}/cancel", headers=other)
        assert cluster.queue.cancelled == []


async def test_cancel_from_any_gateway(cluster: ScriptedCluster) -> None:
    cluster.queue.at_first = 2
    async with (
        gateway(cluster) as one,
        gateway(cluster) as two,
        httpx.AsyncClient(base_url=one) as http,
        httpx.AsyncClient(base_url=two) as elsewhere,
    ):
        asking = asyncio.create_task(http.post(CHAT, json=ASK | {"n": 2}))
        await wait_until(lambda: cluster.queue.job_streams == 2, what="the jobs are followed")
        request = next(iter(cluster.queue.jobs)).rsplit("-", 1)[0]
        cancelled = await elsewhere.post(f"/v1/requests/{request}/cancel")
        assert cancelled.json() == {"id": request, "object": "request", "status": "cancelled"}
        text = (await asking).text
        assert '"code":"cancelled"' in text and "[DONE]" not in text
        assert set(cluster.queue.cancelled) == set(cluster.queue.jobs)
        assert (await http.post("/v1/requests/unknown/cancel")).status_code == 404


async def test_timeouts(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    await http.post(CHAT, json=ASK)
    await http.post(CHAT, json=ASK, headers={"x-request-timeout": "2.5"})
    assert [submission.timeout for submission in cluster.queue.submissions] == [600.0, 2.5]
    for value in ("soon", "-1", "inf", "nan"):
        refused = await http.post(CHAT, json=ASK, headers={"x-request-timeout": value})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-request-timeout")
