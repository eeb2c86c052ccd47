"""The probe finds what an upstream can do, and says what is wrong where nothing will do."""

import asyncio
import ssl
from pathlib import Path

import pytest

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import ModelCard
from millstream.worker.engines.openai import pool as upstreams
from millstream.worker.engines.openai.engine import OpenAIEngine
from millstream.worker.engines.openai.settings import UpstreamSettings, address_of
from tests.harness.scripted_upstream import MODEL, ScriptedUpstream, open_upstream
from tests.harness.support import wait_until

ALL = {"chat", "completions", "usage", "seed", "logprobs", "tools", "formats", "images", "goes_on", "reasons"}


async def card(*urls: str, **settings: object) -> ModelCard:
    return await asyncio.to_thread(OpenAIEngine(UpstreamSettings(urls=urls, **settings)).load)  # type: ignore[arg-type]


async def test_what_it_can_is_on_the_card() -> None:
    async with open_upstream(ScriptedUpstream(can=ALL)) as upstream:
        found = await card(upstream.url)
    assert (found.name, found.engine, found.context_length) == (MODEL, "openai", 4096)
    assert found.capabilities == ("chat", "completions", "tools", "images")
    assert found.details["upstream_cannot"] == "token ids, tokenize"
    assert "reasoning" in found.details["upstream_can"]
    assert found.exactness["chat"] == "restart", "a thought cannot be gone on with"


async def test_what_it_cannot_is_on_the_card_too() -> None:
    async with open_upstream(ScriptedUpstream(can={"chat", "goes_on"})) as upstream:
        found = await card(upstream.url)
    assert found.capabilities == ("chat",)
    assert found.exactness["chat"] == "text"
    assert "seed" in found.details["upstream_cannot"]


async def test_a_server_that_passes_over_images_does_not_see() -> None:
    async with open_upstream(ScriptedUpstream(can=ALL | {"blind"})) as upstream:
        assert "images" not in (await card(upstream.url)).capabilities


async def test_two_upstreams_of_one_model_have_one_fingerprint_and_others_do_not() -> None:
    async with open_upstream(ScriptedUpstream()) as one, open_upstream(ScriptedUpstream()) as two:
        assert (await card(one.url)).fingerprint == (await card(two.url)).fingerprint
        two.models = [{"id": MODEL, "root": "other"}]
        assert (await card(one.url)).fingerprint != (await card(two.url)).fingerprint


async def test_there_is_no_order_of_starting() -> None:
    """The one that is there is used, and none is waited for with patience."""
    told: list[str] = []
    async with open_upstream(ScriptedUpstream()) as upstream:
        port = int(upstream.url.rpartition(":")[2])
    engine = OpenAIEngine(UpstreamSettings(urls=(upstream.url,)))
    loading = asyncio.create_task(asyncio.to_thread(engine.load, lambda stage, fraction: told.append(stage)))
    await wait_until(lambda: any("cannot be reached" in stage for stage in told))
    async with open_upstream(ScriptedUpstream(), port):
        assert (await loading).name == MODEL


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        (ScriptedUpstream(key="secret"), "MILLSTREAM_UPSTREAM_KEY"),
        (ScriptedUpstream(models=[{"id": "a"}, {"id": "b"}]), r"choose one with --model. It has 'a', 'b'"),
        (ScriptedUpstream(models=[]), "is no OpenAI server"),
        (ScriptedUpstream(can=set()), "neither chats nor completions: .*cannot do this"),
    ],
)
async def test_what_waiting_does_not_mend_is_said(upstream: ScriptedUpstream, message: str) -> None:
    async with open_upstream(upstream):
        with pytest.raises(BadRequest, match=message):
            await card(upstream.url)


async def test_the_key_is_sent_and_told_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_upstream(ScriptedUpstream(key="sk-secret")) as upstream:
        with_name = upstream.url.replace("http://", "http://user:password@")
        settings = UpstreamSettings(urls=(with_name,), key="sk-secret")
        found = await asyncio.to_thread(OpenAIEngine(settings).load)
    told = f"{found} {settings} {capsys.readouterr()}"
    assert "sk-secret" not in told
    assert "password" not in str(found.details)


async def test_one_model_of_several_is_chosen_by_its_name() -> None:
    async with open_upstream(ScriptedUpstream(models=[{"id": "a"}, {"id": "b:latest"}])) as upstream:
        assert (await card(upstream.url, model="b")).name == "b:latest"
        assert (await card(upstream.url, model="b", served_name="mine")).name == "mine"
        with pytest.raises(BadRequest, match="does not serve 'c'"):
            await card(upstream.url, model="c")


async def test_a_server_that_lists_nothing_is_asked_for_the_model_by_its_name() -> None:
    async with open_upstream(ScriptedUpstream(models=[])) as upstream:
        assert (await card(upstream.url, model="mine")).name == "mine"


async def test_a_certificate_is_checked_and_another_authority_can_be_named(certificate: tuple[Path, Path]) -> None:
    made, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    async with open_upstream(ScriptedUpstream(), tls=context) as upstream:
        with pytest.raises(BadRequest, match=r"not trusted.*--upstream-ca"):
            await card(upstream.url)
        assert (await card(upstream.url, authority=made)).name == MODEL
    with pytest.raises(BadRequest, match=r"--upstream-ca .* cannot be read"):
        await card(upstream.url, authority=made / "none")


async def test_no_proxy_of_the_environment_leads_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(upstreams, "LONGEST_PAUSE", 0.1)
    async with open_upstream(ScriptedUpstream()) as upstream:
        assert (await card(upstream.url)).name == MODEL


@pytest.mark.parametrize(
    ("url", "api", "root"),
    [
        ("http://host:8080", "http://host:8080/v1", "http://host:8080"),
        ("http://host:8080/v1/", "http://host:8080/v1", "http://host:8080"),
        ("https://host/api/v1", "https://host/api/v1", "https://host/api"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai", "https://host/v1beta/openai"),
    ],
)
def test_an_address_is_given_in_any_usual_form(url: str, api: str, root: str) -> None:
    assert (address_of(url).api, address_of(url).root) == (api, root)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "user:password@host"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="should be the URL") as refused:
        address_of(url)
    assert "password" not in refused.value.message
