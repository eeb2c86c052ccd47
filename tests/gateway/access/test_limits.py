"""Keys and waits as a client sees them: a gateway over a real queue."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from millstream.common.broker import jobs
from millstream.common.broker.accounts.keyring import ApiKey, KeyLimits, digest, revoke_key, store_key
from millstream.common.broker.connection.broker import RedisAway
from millstream.common.broker.models.directory import announce, forget_model
from millstream.common.job import EmbedInput, JobRequest, ModelName, Sampling, TextPrompt
from millstream.gateway.access import api_keys as keyring
from millstream.gateway.app import create_app, listen, server
from millstream.gateway.queue import redis_client as queue
from millstream.gateway.queue.rate_limits import answer_bound, duration, estimate
from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from tests.harness.queue_site import MODEL, Site
from tests.harness.support import wait_until

KEY = "sk-ms-test"


@asynccontextmanager
async def gateway(site: Site, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    chosen = GatewaySettings(**{"redis_url": site.broker.url, "port": 0, "drain": 0.5, **settings})
    running = server(chosen, connect)
    with listen(chosen) as listener:
        task = asyncio.create_task(running.serve([listener]))
        await wait_until(lambda: running.started or task.done())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as http:
            yield http
        running.should_exit = True
        await task


async def own(site: Site, **terms: Any) -> None:
    await store_key(site.broker, digest(KEY), ApiKey("key_1", "acme", created=int(time.time()), **terms))


def body(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **changes}


async def ask(http: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await http.post("/v1/chat/completions", json=body(**changes))


async def test_limits_are_told_and_kept(site: Site) -> None:
    await site.worker("w")
    await own(site, limits=KeyLimits(requests_per_minute=2, tokens_per_minute=10_000))
    async with gateway(site, require_keys=True) as http:
        first = await ask(http)
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert 9000 < int(first.headers["x-ratelimit-remaining-tokens"]) < 10_000
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")
        await ask(http)
        refused = await ask(http)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert "requests per min (RPM): Limit 2" in error["message"]


async def test_a_budget_that_is_used_up_is_openais_quota_error(site: Site) -> None:
    await site.worker("w")
    await own(site, limits=KeyLimits(tokens_per_month=10))
    async with gateway(site, require_keys=True) as http:
        refused = await ask(http, max_tokens=500)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert refused.headers["x-should-retry"] == "false"


async def test_models_and_tiers_a_key_may_use(site: Site) -> None:
    await site.worker("w")
    await own(site, ceiling="flex")
    async with gateway(site, require_keys=True) as http:
        assert (await ask(http, service_tier="priority")).json()["service_tier"] == "flex"
    await own(site, models=("other",))
    async with gateway(site, require_keys=True) as http:
        refused = await ask(http)
        assert (await http.get("/v1/models")).json()["data"] == []
        assert refused.status_code == 403 and "'other'" in refused.json()["error"]["message"]


async def test_a_revoked_key_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "FRESH", 0.05)
    await site.worker("w")
    await own(site)
    async with gateway(site) as http:  # keys exist, so they are demanded, also on loopback
        assert (await http.get("/v1/models")).status_code == 200
        await wait_until(lambda: _refused(http, {"Authorization": ""}))
        await revoke_key(site.broker, "key_1")
        await wait_until(lambda: _refused(http, {}))


async def _refused(http: httpx.AsyncClient, headers: dict[str, str]) -> bool:
    return (await http.get("/v1/models", headers=headers)).status_code == 401


async def test_keys_are_demanded_from_the_first_request_on(site: Site) -> None:
    await own(site)
    for _ in range(3):  # a gateway that has only just started has not looked yet
        async with gateway(site) as http:
            assert await _refused(http, {"Authorization": ""})


async def test_a_retry_may_come_back_to_what_has_entered_whatever_the_limits(site: Site) -> None:
    await site.worker("w", rate=20)
    await own(site, limits=KeyLimits(concurrent=1, requests_per_minute=1))
    same = {"Idempotency-Key": "mine"}
    async with gateway(site, require_keys=True) as http:
        first = asyncio.create_task(http.post("/v1/chat/completions", json=body(), headers=same))
        await wait_until(lambda: site.broker.redis.exists("ms:{account:key_1}:open"))
        assert (await ask(http)).status_code == 429
        again = await http.post("/v1/chat/completions", json=body(), headers=same)
        assert again.json()["choices"] == (await first).json()["choices"]


@pytest.mark.parametrize("entered", [False, True])
async def test_a_submission_redis_did_not_answer_sets_nothing_aside_for_good(
    site: Site, monkeypatch: pytest.MonkeyPatch, entered: bool
) -> None:
    submit, calls = jobs.submit, 0

    async def unanswered(*args: Any) -> jobs.Submitted:
        nonlocal calls
        calls += 1
        if calls > 1:
            return await submit(*args)
        if entered:
            await submit(*args)
        raise RedisAway("no reply")

    monkeypatch.setattr(jobs, "submit", unanswered)
    monkeypatch.setattr(queue, "SUBMIT_PATIENCE", -1.0)
    await site.worker("w", rate=5)
    await own(site, limits=KeyLimits(concurrent=1))
    async with gateway(site, require_keys=True) as http:
        assert (await ask(http, max_tokens=1000)).status_code == 503
        await wait_until(lambda: _answered(http))
    assert await site.load() == {"w": 0}


async def _answered(http: httpx.AsyncClient) -> bool:
    return (await ask(http)).status_code == 200


def test_only_what_generates_sets_an_answers_tokens_aside() -> None:
    assert estimate(JobRequest(EmbedInput(["hello"]))) < 30
    assert estimate(JobRequest(TextPrompt("hello"), Sampling(max_tokens=700))) > 700


async def test_a_burst_without_max_tokens_stays_within_the_keys_budget(site: Site) -> None:
    await site.worker("w", slots=32, rate=2000)
    await own(site, limits=KeyLimits(tokens_per_day=8000))
    async with gateway(site, require_keys=True) as http:
        answers = await asyncio.gather(*(ask(http, max_tokens=None) for _ in range(20)))
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 429}
        used = sum(answer.json()["usage"]["total_tokens"] for answer in answers if answer.status_code == 200)
    assert 0 < used <= 8000
    assert answer_bound(KeyLimits(requests_per_minute=5)) is None
    assert answer_bound(KeyLimits(tokens_per_minute=10**6, tokens_per_day=400)) == 100


def test_other_addresses_are_served_when_keys_are_demanded() -> None:
    create_app(GatewaySettings(host="0.0.0.0", require_keys=True), connect)
    with pytest.raises(ValueError, match="require-keys"):
        create_app(GatewaySettings(host="0.0.0.0"), connect)


async def test_a_stream_that_waits_says_how_long(site: Site) -> None:
    await site.beat("busy", slots="1", job_seconds="3")
    await site.put("j0", "j1", "j2", tenant="default")
    async with (
        gateway(site, first_chunk_wait=0.05) as http,
        http.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response,
    ):
        assert response.status_code == 200
        assert response.headers["x-millstream-queue-position"] == "3"
        assert response.headers["x-millstream-queue-wait"] == "9.0"
        lines = response.aiter_lines()
        assert await anext(lines) == ": queued 3, about 9 s"
        [job] = await site.claim("busy")
        await site.finish("busy", job)
        await site.claim("busy")
        await _until(lines, ": queued 2, about 6 s")


async def _until(lines: AsyncIterator[str], wanted: str) -> None:
    async with asyncio.timeout(20):
        async for line in lines:
            if line == wanted:
                return
    raise AssertionError(f"never came: {wanted}")


async def test_a_known_model_without_workers_queues_and_says_so(site: Site) -> None:
    await site.beat("gone")
    await site.broker.redis.zadd("ms:{simulated}:leases", {"gone": 1})
    async with (
        gateway(site, first_chunk_wait=0.05) as http,
        http.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response,
    ):
        assert response.headers["x-millstream-workers"] == "0"
        lines = response.aiter_lines()
        assert await anext(lines) == ": queued 1, no worker serves the model now"
        await site.worker("new")
        text = "".join([line async for line in lines])
        assert "[DONE]" in text


async def test_a_forgotten_model_is_unknown_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "KNOWN", 0.0)
    await announce(site.broker, ModelName("old"))
    async with gateway(site, first_chunk_wait=0.0) as http:
        waiting = asyncio.create_task(ask(http, model="old"))
        await wait_until(lambda: site.broker.redis.exists("ms:{old}:waiting"))
        await forget_model(site.broker, ModelName("old"))
        assert (await ask(http, model="old")).status_code == 404
        waiting.cancel()


async def test_a_model_a_key_may_not_use_is_none(site: Site) -> None:
    await site.worker("w")
    await own(site, models=("other",))
    async with gateway(site, require_keys=True) as http:
        found = await http.get(f"/v1/models/{MODEL}")
        assert found.status_code == 404 and "served here: none" in found.json()["error"]["message"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.12, "120ms"), (1, "1s"), (59.6, "1m0s"), (360, "6m0s"), (86399, "23h59m59s")]
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
