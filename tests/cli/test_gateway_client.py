"""The way to a gateway past the proxies of the environment."""

import asyncio
import json
import re
from collections.abc import Iterator

import pytest

from millstream.cli.chat import client, first_model
from millstream.cli.gateway_client import client_options
from millstream.cli.inspect.doctor import ask, gateway
from millstream.cli.settings import ClientSettings, DoctorSettings
from millstream.common.job import ModelName
from tests.gateway.conftest import gateway as gateway_of
from tests.gateway.scripted import MODEL as SCRIPTED
from tests.gateway.scripted import ScriptedCluster
from tests.harness.answering import answering

LISTED: list[dict[str, object]] = [
    {"id": "a-gone", "workers": 0, "capabilities": ["chat"]},
    {"id": "b-vectors", "workers": 1, "capabilities": ["embeddings"]},
    {"id": "m", "workers": 1, "capabilities": ["chat", "completions"]},
]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on loopback, in an environment whose proxy answers nobody."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with answering(json.dumps({"data": LISTED})) as port:
        yield f"http://127.0.0.1:{port}"


def test_chat_reaches_loopback_and_talks_to_the_first_model_that_can(url: str) -> None:
    with client(ClientSettings(gateway_url=url)) as http:
        assert first_model(http) == "m"


async def test_doctor_reaches_loopback(url: str) -> None:
    finding = await asyncio.wait_for(gateway(DoctorSettings(gateway_url=url), None), 30)
    assert (finding.grade, finding.what) == ("good", f"gateway {url}: ready, serves a-gone, b-vectors, m")


def test_other_machines_are_reached_as_the_environment_says() -> None:
    for url in ("http://localhost:1", "http://[::1]:1", "http://127.9.9.9", "http://a.localhost"):
        assert not client_options(ClientSettings(gateway_url=url))["trust_env"], url
    for url in ("http://gateway:8000", "https://10.0.0.7", "http://localhost.example.org"):
        assert client_options(ClientSettings(gateway_url=url))["trust_env"], url


async def test_doctor_asks_as_a_client_would() -> None:
    async with gateway_of(ScriptedCluster()) as address:
        settings = DoctorSettings(gateway_url=address)
        good, bad = await ask(settings, SCRIPTED), await ask(settings, ModelName("nobody"))
        nowhere = await ask(DoctorSettings(gateway_url="http://127.0.0.1:9"), SCRIPTED)
    assert good.grade == "good" and re.fullmatch(rf"asked {SCRIPTED}: \d+ tokens after \d+\.\d s", good.what)
    assert bad.grade == "bad" and "404 The model 'nobody' does not exist" in bad.what and "req_" in bad.remedy
    assert nowhere.grade == "bad" and "connection" in nowhere.what
