"""The page that Prometheus reads names every tenant: it is for administrators, or for a port of its own. No word of a
client becomes a label."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from millstream.common.broker.embedded import free_port
from millstream.common.job import ModelName
from millstream.common.request_id import new_request_id
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
KEYS = ["rival:sk-aaaaaaaaaaaaaaaa", "admin:sk-bbbbbbbbbbbbbbbb"]
RIVAL, ADMIN = ({"Authorization": f"Bearer {entry.partition(':')[2]}"} for entry in KEYS)
SPELLINGS = ("/metrics", "/metrics/", "/metrics//")


def labels(text: str) -> set[str]:
    """Every value of every label."""
    found = (sample.labels for family in text_string_to_metric_families(text) for sample in family.samples)
    return {value for each in found for value in each.values()}


async def test_only_administrators_read_of_others() -> None:
    async with gateway(ScriptedCluster(), api_keys=KEYS) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post(CHAT, json=ASK, headers=RIVAL)).status_code == 200
        for path in SPELLINGS:
            assert (await http.get(path)).status_code == 401
            refused = await http.get(path, headers=RIVAL)
            assert refused.status_code == 403 and "MILLSTREAM_METRICS_PORT" in refused.json()["error"]["message"]
        assert "rival" in labels((await http.get("/metrics", headers=ADMIN)).text)


async def test_without_keys_there_is_nothing_to_hide() -> None:
    async with gateway(ScriptedCluster()) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/metrics")).status_code == 200


async def test_a_port_of_its_own() -> None:
    port = free_port()
    async with (
        gateway(ScriptedCluster(), api_keys=KEYS, metrics_port=port) as url,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as scraper,
        httpx.AsyncClient(base_url=url) as http,
    ):
        assert (await http.post(CHAT, json=ASK, headers=RIVAL)).status_code == 200
        for path in SPELLINGS:
            assert "rival" in labels((await scraper.get(path)).text)
        for path in ("/", "/health", "/v1/models", "/docs", CHAT):
            assert (await scraper.get(path)).status_code == 404
        assert (await scraper.post("/metrics")).status_code == 405
        assert (await scraper.get("/metrics", headers={"Host": "evil.example"})).status_code == 403


async def test_two_processes_take_two_ports() -> None:
    """Each counts for itself, so each is scraped for itself."""
    port = free_port()
    async with (
        gateway(ScriptedCluster(), metrics_port=port, processes=2),
        gateway(ScriptedCluster(), metrics_port=port, processes=2),
        httpx.AsyncClient() as scraper,
    ):
        for each in (port, port + 1):
            assert (await scraper.get(f"http://127.0.0.1:{each}/metrics")).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_no_label_is_a_clients_own_word(stream: bool) -> None:
    """Not by an invented model, whose checksum fits the place it asks to go on from, nor by any other header."""
    async with gateway(ScriptedCluster()) as url, httpx.AsyncClient(base_url=url) as http:
        for number in range(20):
            invented = ModelName(f"word-{number}-{'x' * 2000}")
            for place in (0, 3):
                last = f"{new_request_id('chatcmpl', invented, 1).text}:{place}"
                headers = {"Last-Event-ID": last, "x-session-id": f"word-{number}", "Idempotency-Key": f"word-{number}"}
                body = ASK | {"model": invented, "stream": stream, "user": f"word-{number}"}
                assert (await http.post(CHAT, json=body, headers=headers)).status_code == 404
            assert (await http.post(CHAT, json=ASK | {"model": invented})).status_code == 404
            await http.request(f"WORD{number}", f"/word-{number}")
            await http.get(f"/v1/models/word-{number}")
            await http.get(f"/v1/files/word-{number}")
        assert not [value for value in labels((await http.get("/metrics")).text) if "word" in value.lower()]


async def test_what_is_gone_on_with_is_counted() -> None:
    cluster = ScriptedCluster()
    async with gateway(cluster) as url, httpx.AsyncClient(base_url=url) as http:
        first = (await http.post(CHAT, json=ASK | {"stream": True})).text
        place = next(line.removeprefix("id: ") for line in first.split("\n") if line.startswith("id: "))
        for stream in (True, False):
            resumed = await http.post(CHAT, json=ASK | {"stream": stream}, headers={"Last-Event-ID": place})
            assert resumed.status_code == 200
        text = (await http.get("/metrics")).text
    assert f'millstream_gateway_resumptions_total{{model="{MODEL}"}} 2.0' in text
    assert "departures_total{" not in text
