"""Traces of real processes, received by a small OTLP receiver: what one trace tells when workers die."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import Heard, StreamClient
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.tracing.context import derived
from tests.harness.cluster import CHAT, MODEL, PATIENCE, Cluster, all_exact, body, cluster, heard_some
from tests.harness.otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.harness.support import wait_until

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOKENS = 400
PARENT = f"00-{TRACE}-{CLIENT}-01"


@pytest_asyncio.fixture
async def site(own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(own_valkey, tmp_path) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        yield running


async def spans_of(receiver: OtlpReceiver, trace: str, count: int) -> dict[str, list[ReceivedSpan]]:
    """Returns the spans of a trace once there are `count`, by their names."""
    found = await wait_until(
        lambda: receiver.of(trace) if len(receiver.of(trace)) >= count else None,
        within=PATIENCE,
        what=f"{count} spans, not {[span.name for span in receiver.of(trace)]}",
    )
    assert found is not None
    named: dict[str, list[ReceivedSpan]] = {}
    for span in found:
        named.setdefault(span.name, []).append(span)
    return named


async def begin(
    site: Cluster, told: dict[str, str]
) -> tuple[FleetPart, StreamClient, asyncio.Task[Heard], dict[str, FleetPart]]:
    """A client in the middle of its answer, a gateway, and two workers by their names."""
    gateway, *workers = await site.gateway(**told), await site.worker(**told), await site.worker(**told)
    client = site.client(gateway, TOKENS)
    client.headers["traceparent"] = PARENT
    reading = asyncio.create_task(client.run())
    await heard_some(client)
    return gateway, client, reading, {await site.id_of(part): part for part in workers}


async def test_one_trace_tells_that_a_worker_was_killed_and_another_went_on(
    site: Cluster, receiver: OtlpReceiver
) -> None:
    told = {"otlp_endpoint": receiver.url}
    gateway, client, reading, parts = await begin(site, told)
    victim = await site.holder(client)
    ((survivor, second),) = [(name, part) for name, part in parts.items() if name != victim]
    await parts[victim].kill()
    await all_exact([client], [reading])

    named = await spans_of(receiver, TRACE, 5)
    (request,), (one,), (two,) = named[f"chat {MODEL}"], named["attempt 1"], named["attempt 2"]
    waits = named["queue wait"]
    assert (request.service, request.kind, request.parent_id) == ("millstream-gateway", "server", CLIENT)
    assert {span.parent_id for span in (*waits, one, two)} == {request.span_id}
    assert (one.kind, one.error, one.service) == ("consumer", "worker lost", "millstream-worker")
    assert (one.attributes["millstream.worker.id"], one.attributes["millstream.outcome"]) == (victim, "lost")
    assert (two.attributes["millstream.worker.id"], two.attributes["millstream.outcome"]) == (survivor, "finished")
    assert two.links == [one.span_id] and not two.error and not one.links
    assert two.attributes["millstream.chunks_before"] > 5
    assert two.attributes["gen_ai.usage.output_tokens"] == request.attributes["gen_ai.usage.output_tokens"] == TOKENS
    assert two.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert [(wait.end, wait.kind) for wait in waits] == [(one.start, "internal"), (two.start, "internal")]
    assert waits[1].start == one.end, "between the two is the silence that a client may feel"
    assert not [key for span in receiver.spans for key in span.attributes if key.endswith("messages")]

    claimed, answered = second.told("job_claimed"), gateway.told("request_answered")
    assert {entry["trace_id"] for entry in claimed} == {entry["trace_id"] for entry in answered} == {TRACE}
    assert claimed[0]["job"] == client.heard.request == request.attributes["gen_ai.response.id"]


async def test_who_followed_a_job_tells_of_workers_that_nobody_outlived(site: Cluster, receiver: OtlpReceiver) -> None:
    told = {"otlp_endpoint": receiver.url, "max_attempts": "1"}
    gateway = await site.gateway(**told)
    worker = await site.worker(simulated_first_token="3600", **told)  # it gets no further, so its death counts
    asking = asyncio.create_task(site.http.post(gateway.url + CHAT, json=body(), headers={"traceparent": PARENT}))
    await wait_until(lambda: worker.told("job_claimed"), within=PATIENCE)
    await worker.kill()
    answer = await asking
    assert answer.json()["error"]["code"] == "worker_lost"
    named = await spans_of(receiver, TRACE, 3)
    (attempt,), (request,) = named["attempt 1"], named[f"chat {MODEL}"]
    assert (attempt.error, attempt.service) == ("worker lost", "millstream-gateway")
    assert request.attributes["http.response.status_code"] == answer.status_code
    assert named["queue wait"][0].end == attempt.start


async def test_a_drained_worker_tells_itself_what_it_hands_over(site: Cluster, receiver: OtlpReceiver) -> None:
    told = {"otlp_endpoint": receiver.url}
    _, client, reading, parts = await begin(site, {**told, "drain": "0.1"})
    assert await parts[await site.holder(client)].stop() == 0
    await all_exact([client], [reading])
    named = await spans_of(receiver, TRACE, 5)
    (one,), (two,) = named["attempt 1"], named["attempt 2"]
    assert (one.attributes["millstream.outcome"], one.error) == ("handed_over", "")
    assert two.links == [one.span_id]


async def test_batches_and_background_responses_have_traces(site: Cluster, receiver: OtlpReceiver) -> None:
    told = {"otlp_endpoint": receiver.url}
    gateway, _ = await site.gateway(**told), await site.worker(simulated_rate="0", **told)
    await site.fleet.background(**told)
    batch = await submit_batch(site, gateway.url, lines=2)
    for index in range(2):
        named = await spans_of(receiver, derived(f"{batch}:{index}", 1.0).trace_id, 3)
        (line,), (attempt,) = named[f"chat {MODEL}"], named["attempt 1"]
        assert (line.service, line.kind, line.parent_id) == ("millstream-background", "internal", "")
        assert (line.attributes["millstream.batch.id"], line.attributes["millstream.batch.line"]) == (batch, index)
        assert attempt.parent_id == line.span_id

    asked = {"model": MODEL, "input": "hi", "background": True, "max_output_tokens": 5}
    answer = await site.http.post(gateway.url + "/v1/responses", json=asked, headers={"traceparent": PARENT})
    named = await spans_of(receiver, TRACE, 3)
    assert named["attempt 1"][0].parent_id == named[f"chat {MODEL}"][0].span_id
    assert named["attempt 1"][0].attributes["millstream.job.id"] == answer.json()["id"]


async def submit_batch(site: Cluster, url: str, lines: int) -> str:
    asked = [
        {"custom_id": str(at), "method": "POST", "url": CHAT, "body": body(max_completion_tokens=5)}
        for at in range(lines)
    ]
    file = ("lines.jsonl", "\n".join(map(json.dumps, asked)))
    uploaded = await site.http.post(url + "/v1/files", files={"file": file}, data={"purpose": "batch"})
    order = {"input_file_id": uploaded.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    return str((await site.http.post(url + "/v1/batches", json=order)).json()["id"])


@pytest.mark.parametrize("fault", ["hangs", "refuses", "is away"])
async def test_a_receiver_that_is_of_no_use_costs_no_request_and_no_stop(
    site: Cluster, receiver: OtlpReceiver, fault: str
) -> None:
    receiver.status = 503 if fault == "refuses" else 200
    if fault == "hangs":
        receiver.hold.clear()
    url = "http://127.0.0.1:9" if fault == "is away" else receiver.url
    gateway, worker = await site.gateway(otlp_endpoint=url), await site.worker(otlp_endpoint=url)
    for _ in range(3):
        answer = await site.http.post(gateway.url + CHAT, json=body(max_completion_tokens=3))
        assert answer.status_code == 200
    if fault != "is away":
        await wait_until(lambda: receiver.requests, within=PATIENCE)
    assert await asyncio.gather(worker.stop(), gateway.stop()) == [0, 0]
    assert worker.told("spans_lost") and gateway.told("spans_lost")


async def test_without_a_receiver_nothing_is_traced(site: Cluster) -> None:
    gateway, worker = await site.gateway(), await site.worker()
    answer = await site.http.post(
        gateway.url + CHAT, json=body(max_completion_tokens=3), headers={"traceparent": PARENT}
    )
    (job,) = [job for job in await site.jobs() if answer.json()["id"] in job["request"] or job["state"] == "finished"]
    assert TRACE not in job["request"]
    assert "trace_id" not in worker.told("job_claimed")[0]
