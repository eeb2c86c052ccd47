"""A model's Redis server that is silent, not dead: it takes connections and never answers. It costs its models only."""

import os
import signal
from typing import Any

import httpx
import openai
import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.proxy import Proxy
from tests.faults.sdks.conftest import ALPHA, BETA, GAMMA, ThreeServers
from tests.faults.sdks.test_several_servers import begun, body, sdk
from tests.harness.cluster import PATIENCE, all_exact
from tests.harness.support import wait_until


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["its process is stopped", "the network swallows all"])
async def test_a_silent_server_costs_its_models_only(three: ThreeServers, how: str) -> None:
    server = three.servers["a"]
    async with Proxy("127.0.0.1", server.port) as proxy:
        gateway = await three.site.gateway(model_redis=three.places.replace(server.url, proxy.url))
        for model in (ALPHA, BETA, GAMMA):
            await three.worker(model)
        lost = [three.client(gateway, ALPHA, 200) for _ in range(2)]
        others = [three.client(gateway, model, 600) for model in (BETA, GAMMA) for _ in range(2)]
        of_lost, of_others = await begun(lost), await begun(others)
        frozen = how == "its process is stopped"
        if frozen:
            os.kill(server.pid, signal.SIGSTOP)
        else:
            proxy.silent()
        try:
            await _others_are_served(three, gateway)
            await all_exact(others, of_others)
            assert all(client.heard.connections == 1 for client in others)
        finally:
            os.kill(server.pid, signal.SIGCONT)
            proxy.passing()
        await all_exact(lost, of_lost)
        async with sdk(gateway, max_retries=0) as client:
            await wait_until(lambda: _answered(client), within=PATIENCE, every=0.2, what="its models are back")


async def _others_are_served(three: ThreeServers, gateway: FleetPart) -> None:
    """Twice: the second time it is known that the server is silent."""
    async with sdk(gateway, max_retries=0) as client:
        for _ in range(2):
            with pytest.raises(openai.APIStatusError, match="The queue \\(Redis\\)") as raised:
                await client.chat.completions.create(**body(ALPHA))
            assert raised.value.status_code == httpx.codes.SERVICE_UNAVAILABLE
            for model in (BETA, GAMMA):
                answer = await client.chat.completions.create(**body(model))
                assert answer.usage is not None and answer.usage.completion_tokens == 5
            listed = {model.id: model for model in (await client.models.list()).data}
            assert {name: model.workers for name, model in listed.items()} == {"alpha": 0, "beta": 1, "gamma": 1}  # type: ignore[attr-defined]
    assert (await _get(three, gateway, "/ready"))["workers"] == 2
    metrics = (await three.site.http.get(f"{gateway.url}/metrics")).text
    assert f'server="127.0.0.1:{three.servers["b"].port}/0"' in metrics
    for state in ("", "?state=ended", "?state=dead"):
        told = await _get(three, gateway, f"/v1/jobs{state}")
        assert set(told["away"]) == {"alpha"} and "does not answer" in told["away"]["alpha"]
    ended = await _get(three, gateway, "/v1/jobs?state=ended")
    assert {job["model"] for job in ended["data"]} == {"beta", "gamma"}


async def _get(three: ThreeServers, gateway: FleetPart, path: str) -> dict[str, Any]:
    answer = await three.site.http.get(gateway.url + path)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.json()


async def _answered(client: openai.AsyncOpenAI) -> bool:
    try:
        answer = await client.chat.completions.create(**body(ALPHA))
    except openai.APIStatusError:
        return False
    return answer.usage is not None and answer.usage.completion_tokens == 5
