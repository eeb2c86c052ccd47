"""Static keys from a file, which no list of processes shows."""

import asyncio
from pathlib import Path

import httpx
import pytest

from millstream.common.broker.accounts.keyring import KeyLimits
from millstream.gateway.access.static_keys import keys_of
from millstream.gateway.app import create_app
from millstream.gateway.settings import GatewaySettings
from tests.gateway.access.test_limits import gateway as gateway_of
from tests.gateway.conftest import gateway
from tests.gateway.scripted import ScriptedCluster
from tests.harness.queue_site import MODEL, Site
from tests.harness.support import wait_until

A, B = {"Authorization": "Bearer sk-a"}, {"Authorization": "Bearer sk-b"}


async def test_each_line_is_a_key_beside_those_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# our teams\n\nteam-a:sk-aaaaaaaaaaaaaaaa\n  team-b:sk-bbbbbbbbbbbbbbbb  \n")
    settings = {"api_keys_file": file, "api_keys": ["team-c:sk-cccccccccccccccc"]}
    async with gateway(ScriptedCluster(), **settings) as url, httpx.AsyncClient(base_url=url) as http:
        for letter in "abc":
            answer = await http.get("/v1/models", headers={"Authorization": f"Bearer sk-{letter * 16}"})
            assert answer.status_code == 200
        for wrong in ("", "# our teams", "sk-dddddddddddddddd"):
            assert (await http.get("/v1/models", headers={"x-api-key": wrong})).status_code == 401


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    with pytest.raises(ValueError, match=r"MILLSTREAM_API_KEYS_FILE.*nowhere"):
        create_app(GatewaySettings(api_keys_file=tmp_path / "nowhere"), cluster.connect)
    secret = tmp_path / "keys"
    secret.write_text("sk-without-a-tenant\n")
    with pytest.raises(ValueError, match="tenant:key") as told:
        create_app(GatewaySettings(api_keys_file=secret), cluster.connect)
    assert "without-a-tenant" not in str(told.value)


async def test_a_line_may_say_what_its_key_may_do(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a:sk-a rpm=60 tpm=1000 concurrent=8 tokens-per-day=5 tokens-per-month=6\nb:sk-b ceiling=flex\n")
    keys = keys_of(GatewaySettings(api_keys_file=file, api_keys=["c d:sk-c weight=2.5 models=m|n"]))
    first, second, third = [await keys.owner(f"sk-{letter}") for letter in "abc"]
    assert first is not None and second is not None and third is not None
    assert first.id and first.static and first.limits == KeyLimits(60, 1000, 8, 5, 6)
    assert (second.id, second.tenant, second.ceiling, second.limits) == ("", "b", "flex", KeyLimits())
    assert (third.tenant, third.weight, third.models) == ("c d", 2.5, ("m", "n"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a:sk-secret rpm=many", "line 2: `rpm` wants a whole number above 0; leave it out for no limit"),
        ("a:sk-secret rpm=0", "`rpm` wants a whole number above 0"),
        ("a:sk-secret tpm", "`tpm` wants a whole number above 0"),
        ("a:sk-secret weight=-1", "`weight` wants a number above 0"),
        ("a:sk-secret ceiling=best", "`ceiling` wants one of priority, default, flex, batch"),
        ("a:sk-secret models=m|", "`models` wants names of models"),
        ("a:sk-secret rps=1", "a term is none of rpm, tpm, concurrent,"),
        ("a:sk-secret requests_per_minute=1", "a term is none of rpm, tpm, concurrent,"),
        ("a:sk-secret rpm=1 rpm=1", "`rpm` stands twice"),
        ("a:", "line 2: expected `tenant:key`"),
        ("b:sk-first rpm=1", "line 2: this key stands twice"),
    ],
)
def test_a_wrong_line_is_told_in_one_sentence_without_its_key(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"a:sk-first\n{line}\n")
    with pytest.raises(ValueError) as error:
        keys_of(GatewaySettings(api_keys_file=file))
    assert told in str(error.value)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


async def test_a_key_of_the_settings_is_held_to_its_limits(site: Site) -> None:
    await site.worker("w", slots=4, rate=20)
    async with gateway_of(site, api_keys=["a:sk-a concurrent=1", "b:sk-b"]) as http:
        ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000}
        slow = asyncio.create_task(http.post("/v1/chat/completions", json=ask, headers=A))
        await wait_until(lambda: has_load(site), what="the first request runs")
        refused = await http.post("/v1/chat/completions", json=ask | {"max_tokens": 1}, headers=A)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        other = await http.post("/v1/chat/completions", json=ask | {"max_tokens": 1}, headers=B)
        assert other.status_code == 200
        slow.cancel()


async def has_load(site: Site) -> bool:
    return any((await site.load()).values())
