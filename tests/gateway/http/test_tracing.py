"""The span of a request: whose child it is, what it tells, and what a client's header can and cannot do."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import httpx
import pytest
import pytest_asyncio

from millstream.common.errors import Overloaded
from millstream.common.tracing.context import TraceContext
from millstream.common.tracing.sender import SpanSender
from millstream.common.tracing.span import SpanRecord
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster, failed, said
from tests.harness.support import wait_until

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CLIENT}-01"
CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "a secret"}]}
NOWHERE = "http://127.0.0.1:9"  # nothing is sent there: the cluster brings its own sender


@dataclass
class TracedGateway:
    """A gateway whose spans the test sees."""

    cluster: ScriptedCluster
    http: httpx.AsyncClient
    spans: list[SpanRecord] = field(default_factory=list)

    def send(self, spans: Sequence[SpanRecord]) -> bool:
        self.spans += spans
        return True

    async def span(self) -> SpanRecord:
        """Returns the one span there is, once it is there."""
        await wait_until(lambda: self.spans)
        (span,) = self.spans
        return span

    def parents(self) -> list[TraceContext | None]:
        """Returns the traces to which the jobs belong."""
        return [TraceContext.of(asked.traceparent) for asked in self.cluster.queue.requests]


@pytest_asyncio.fixture
async def site(cluster: ScriptedCluster) -> AsyncIterator[TracedGateway]:
    async with httpx.AsyncClient(timeout=20) as http:
        site = TracedGateway(cluster, http)
        cluster.spans = SpanSender(site.send)
        async with gateway(cluster, otlp_endpoint=NOWHERE) as url:
            http.base_url = httpx.URL(url)
            yield site
        cluster.spans.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_a_child_of_its_clients_span(site: TracedGateway, stream: bool) -> None:
    answer = await site.http.post(CHAT, json={**BODY, "stream": stream}, headers={"traceparent": PARENT})
    span = await site.span()
    assert (span.name, span.kind, span.trace_id, span.parent_id) == (f"chat {MODEL}", "server", TRACE, CLIENT)
    assert site.parents() == [TraceContext(TRACE, span.span_id, True)]
    told = span.attributes
    assert told["http.route"] == CHAT and told["http.response.status_code"] == answer.status_code == 200
    assert told["gen_ai.usage.input_tokens"] == USAGE.prompt
    assert told["gen_ai.usage.output_tokens"] == USAGE.completion
    assert told["gen_ai.response.id"] == answer.headers["x-millstream-request"]
    assert "secret" not in str(span) and not span.error


@pytest.mark.parametrize("header", ["nonsense", "x" * 4000, PARENT[:-1], f"00-{'0' * 32}-{CLIENT}-01"])
async def test_a_malformed_header_counts_as_none(site: TracedGateway, header: str) -> None:
    assert (await site.http.post(CHAT, json=BODY, headers={"traceparent": header})).status_code == 200
    span = await site.span()
    assert (span.parent_id, span.trace_id != TRACE) == ("", True)
    assert {len(asked.traceparent) for asked in site.cluster.queue.requests} == {len(PARENT)}


async def test_a_header_sent_twice_counts_as_none(site: TracedGateway) -> None:
    twice = [("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "x=" + "y" * 9000)]
    assert (await site.http.post(CHAT, json=BODY, headers=twice)).status_code == 200
    assert (await site.span()).trace_id != TRACE


async def test_a_client_that_does_not_record_its_trace_is_followed(site: TracedGateway) -> None:
    await site.http.post(CHAT, json=BODY, headers={"traceparent": PARENT[:-1] + "0"})
    await site.http.post(CHAT, json=BODY, headers={"traceparent": PARENT})
    assert (await site.span()).parent_id == CLIENT, "only the second"
    assert [parent is not None and parent.sampled for parent in site.parents()] == [False, True]


async def test_failures_are_told(site: TracedGateway) -> None:
    site.cluster.queue.refusal = Overloaded("full", retry_after=1)
    await site.http.post(CHAT, json=BODY)
    span = await site.span()
    assert (span.name, span.attributes["http.response.status_code"], span.error) == (f"chat {MODEL}", 429, "")
    site.spans.clear()
    site.cluster.queue.refusal = None
    site.cluster.queue.script = lambda asked: [*said("Hello")[:-1], failed("worker_lost")]
    await site.http.post(CHAT, json={**BODY, "stream": True})
    span = await site.span()
    assert (span.error, span.attributes["error.type"]) == ("worker_lost", "worker_lost")


async def test_a_name_that_a_client_invents_fills_no_span(site: TracedGateway) -> None:
    assert (await site.http.post(CHAT, json={**BODY, "model": "m" * 5000})).status_code == 404
    assert len(str(await site.span())) < 2000


async def test_each_choice_is_a_job_of_the_same_trace(site: TracedGateway) -> None:
    await site.http.post(CHAT, json={**BODY, "n": 3})
    span = await site.span()
    assert site.parents() == [TraceContext(span.trace_id, span.span_id, True)] * 3


async def test_who_may_not_ask_fills_no_trace(cluster: ScriptedCluster) -> None:
    got: list[SpanRecord] = []
    cluster.spans = SpanSender(lambda spans: not got.extend(spans))
    async with (
        gateway(cluster, otlp_endpoint=NOWHERE, api_keys=["a:sk-right"]) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        for key, status in (("sk-wrong", 401), ("sk-right", 200)):
            headers = {"authorization": f"Bearer {key}", "traceparent": PARENT}
            assert (await http.post(CHAT, json=BODY, headers=headers)).status_code == status
        assert (await http.get("/health")).status_code == 200
    cluster.spans.close()
    assert [span.attributes["http.response.status_code"] for span in got] == [200]


async def test_lost_spans_are_counted(cluster: ScriptedCluster) -> None:
    cluster.spans = SpanSender(lambda spans: False)
    async with gateway(cluster, otlp_endpoint=NOWHERE) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post(CHAT, json=BODY)).status_code == 200

        async def counted() -> bool:
            return "millstream_gateway_trace_spans_lost_total 1.0" in (await http.get("/metrics")).text

        await wait_until(counted)
    cluster.spans.close()


async def test_without_a_receiver_a_job_bears_no_trace(cluster: ScriptedCluster, http: httpx.AsyncClient) -> None:
    assert (await http.post(CHAT, json=BODY, headers={"traceparent": PARENT})).status_code == 200
    assert [asked.traceparent for asked in cluster.queue.requests] == [""]
