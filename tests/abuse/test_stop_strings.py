"""Stop strings that nearly come, again and again, beside streams that must not falter."""

import asyncio
import json
from typing import Any

import pytest

from tests.abuse.tenants import BAD, HANG, attack
from tests.harness.cluster import CHAT, Cluster, all_exact, body, heard_some

pytestmark = pytest.mark.timeout(600)
STOPS = ["a" * 4000 + "!", *("b" + "a" * (63 - i // 2) + "!" for i in range(60))]
TEXT = "a" * 6000
SCRIPT = [{"role": "user", "content": "script: " + json.dumps({"text": TEXT, "rate": 0})}]


async def test_stop_strings_that_almost_come_cost_the_neighbour_nothing(site: Cluster) -> None:
    gateway = await site.gateway(insecure_no_auth="true", api_keys="")
    worker = await site.worker(slots="16")
    client = site.client(gateway, 300)
    running = asyncio.create_task(client.run())
    await heard_some(client)
    told = await asyncio.gather(*(attack(site, gateway, messages=SCRIPT, stop=STOPS) for _ in range(8)))
    assert [answer.json()["choices"][0]["message"]["content"] == TEXT for answer in told if answer] == [True] * 8
    await all_exact([client], [running])
    assert worker.alive


@pytest.mark.parametrize("stop", ["a" * 9000, ["a" * 200] * 60, ["a"] * 65], ids=["long", "together", "many"])
async def test_more_is_refused_at_the_door(site: Cluster, stop: Any) -> None:
    gateway = await site.gateway()
    answer = await site.http.post(gateway.url + CHAT, json=body(stop=stop), headers=BAD, timeout=HANG)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stop")
