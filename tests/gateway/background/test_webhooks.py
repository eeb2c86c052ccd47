"""Ends are told: batches and background responses, signed, tried again, buried at last."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.webhooks import BatchCompletedWebhookEvent, ResponseCompletedWebhookEvent
from pydantic import SecretStr
from redis import Redis

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey, free_port
from millstream.common.broker.records.pending import Pending
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.background.webhooks import WebhookDelivery, Webhooks, mailbox, pause_after
from tests.gateway.background.cluster import gateway
from tests.gateway.background.processes import BackgroundProcesses, processes
from tests.harness.support import wait_until

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
ReceivedWebhook = tuple[dict[str, str], str]


@dataclass
class Receiver:
    """An HTTP server that answers with the next of `statuses`, then with 200."""

    statuses: list[int] = field(default_factory=list[int])
    heard: list[ReceivedWebhook] = field(default_factory=list[ReceivedWebhook])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
        body = (await reader.readexactly(int(headers["content-length"]))).decode()
        self.heard.append((headers, body))
        status = self.statuses.pop(0) if self.statuses else 200
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", port)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"


@pytest.fixture
def cluster(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[tuple[BackgroundProcesses, int]]:
    with Redis.from_url(valkey.url) as client:
        client.flushall()
    port = free_port()
    hooks = json.dumps([f"default=http://127.0.0.1:{port}/hook", f"other=http://127.0.0.1:{port}/other"])
    with processes(valkey.url, tmp_path, webhooks=hooks, webhook_secret=SECRET) as running:
        running.start("worker", "worker", "--engine", "simulated", "--simulated-rate", "40", "--simulated-length", "60")
        running.start("background", "background")
        yield running, port


async def test_batches_and_background_responses(cluster: tuple[BackgroundProcesses, int]) -> None:
    running, port = cluster
    receiver = Receiver()
    async with (
        gateway(running.redis_url, running.folder / "files") as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", webhook_secret=SECRET) as client,
        receiver.listening(port),
    ):
        await wait_until(lambda: _served(client), within=60, what="the worker is there")
        response = await client.responses.create(model="simulated", input="hello", background=True)
        assert response.status == "queued"
        text = json.dumps(
            {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "simulated"}}
        )
        file = await client.files.create(file=text.encode(), purpose="batch")
        endpoint: Any = "/v1/completions"
        batch = await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
        await wait_until(lambda: len(receiver.heard) >= 2, within=60, what="both ends are told")
        events = [client.webhooks.unwrap(body, headers) for headers, body in receiver.heard]
        told = {type(event): event.data.id for event in events}  # type: ignore[union-attr]
        assert told == {ResponseCompletedWebhookEvent: response.id, BatchCompletedWebhookEvent: batch.id}
        assert {headers["webhook-id"] for headers, _ in receiver.heard} == {event.id for event in events}
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(receiver.heard[0][1] + " ", receiver.heard[0][0])
        assert (await client.responses.retrieve(response.id)).status == "completed"


async def test_a_background_response_survives_its_gateway(cluster: tuple[BackgroundProcesses, int]) -> None:
    """The gateway that took it is killed while it runs: it goes on, its end is stored and told."""
    running, port = cluster
    receiver = Receiver()
    first = str(free_port())
    running.start("gateway", "gateway", "--port", first)
    async with (
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{first}/v1", api_key="none", max_retries=8) as client,
        receiver.listening(port),
    ):
        await wait_until(lambda: _served(client), within=60, what="the worker is there")
        response = await client.responses.create(model="simulated", input="hi", background=True)
        running.kill("gateway")
        await wait_until(lambda: receiver.heard, within=60, what="its end is told")
    async with (
        gateway(running.redis_url, running.folder / "files") as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client,
    ):
        stored = await client.responses.retrieve(response.id)
        assert stored.status == "completed" and len(stored.output_text.split()) > 10
    assert json.loads(receiver.heard[0][1])["type"] == f"response.{stored.status}"


async def _served(client: openai.AsyncOpenAI) -> bool:
    try:
        return bool((await client.models.list()).data)
    except openai.APIConnectionError:
        return False


async def test_a_receiver_that_fails_is_tried_again_and_given_up_at_last(redis_url: str) -> None:
    receiver = Receiver(statuses=[500, 503, 302])
    async with receiver.listening() as url, Broker(redis_url) as broker, mailbox() as http:
        pending = Pending(broker)
        settings = BackgroundSettings(webhooks=[f"*={url}"], webhook_secret=SecretStr(SECRET), webhook_tries=3)
        webhooks = Webhooks(settings, pending, http)
        [delivery] = webhooks.deliveries("anyone", "batch.failed", "batch_1")
        for tried in (1, 2):
            again = await webhooks.deliver(delivery)
            assert again is not None and again[0].tried == tried and again[1] > 0
            delivery = again[0]
        assert await webhooks.deliver(delivery) is None
        [dead] = await pending.dead()
        assert (dead["event"], dead["reason"], dead["body"]) == (delivery.event, "status 302", delivery.body)
        assert await webhooks.deliver(WebhookDelivery(delivery.event, url, delivery.body)) is None
        assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1 and len(receiver.heard) == 4
        assert [event.event for event in webhooks.deliveries("x", "batch.failed", "batch_1")] == [delivery.event]
        receiver.statuses.append(410)  # nobody wants it any more: not tried again
        assert await webhooks.deliver(WebhookDelivery("evt_2", url, delivery.body)) is None
        assert [each["event"] for each in await pending.dead()] == ["evt_2", delivery.event]


def test_pauses_grow_to_hours() -> None:
    pauses = [pause_after(tried) for tried in range(1, 12)]
    assert (
        4 <= pauses[0] <= 6 and max(pauses) <= 4 * 3600 * 1.2 and sum(pauses) > 17 * 3600
    )  # a fifth less than 78,825 s at worst


@pytest.mark.parametrize(
    ("webhooks", "secret"),
    [
        (["nonsense"], SECRET),
        (["a=ftp://x"], SECRET),
        (["a=https://"], SECRET),
        (["a=https://x:port"], SECRET),
        (["a=https://x"], "whsec_!!"),
        (["a=https://x"], ""),
    ],
)
async def test_settings_that_cannot_be_meant(redis_url: str, webhooks: list[str], secret: str) -> None:
    settings = BackgroundSettings(webhooks=webhooks, webhook_secret=SecretStr(secret))
    async with Broker(redis_url) as broker, mailbox() as http:
        with pytest.raises(ValueError, match="MILLSTREAM_WEBHOOK"):
            Webhooks(settings, Pending(broker), http)


async def test_a_receiver_that_never_comes_to_an_end(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers a byte at a time; one more is always there before the connection counts as silent."""
    monkeypatch.setattr("millstream.gateway.background.webhooks.TIMEOUT", 0.5)
    bytes_sent = 0
    left = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal bytes_sent
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while True:
                writer.write(b"x")
                await writer.drain()
                bytes_sent += 1
                await asyncio.sleep(0.02)
        left.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server, Broker(redis_url) as broker, mailbox() as http:
        settings = BackgroundSettings(webhooks=[f"*={url}"], webhook_secret=SecretStr(SECRET))
        webhooks = Webhooks(settings, Pending(broker), http)
        [delivery] = webhooks.deliveries("anyone", "batch.failed", "batch_1")
        again = await webhooks.deliver(delivery)
        assert again is not None and again[0].tried == 1 and bytes_sent > 1
        await left.wait()
