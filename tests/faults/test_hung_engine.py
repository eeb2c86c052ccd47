"""An engine that stops in the middle of its work, in a process that goes on: heartbeats alone would call it healthy."""

import asyncio
import json

from millstream.worker.app import ENGINE_GONE
from tests.harness.cluster import CHAT, Cluster, all_exact, body, heard_some


def hang(after: int) -> dict[str, object]:
    """Asks for an answer that stops the engine after so many tokens."""
    script = {"text": "never", "hang": True, "after": after}
    return body(messages=[{"role": "user", "content": "script: " + json.dumps(script)}])


async def test_a_worker_whose_engine_hangs_withdraws_and_its_jobs_end_or_move(site: Cluster) -> None:
    gateway, hung = await site.gateway(), await site.worker(stall="1.0", max_attempts="1")
    answer = await site.http.post(gateway.url + CHAT, json=hang(0))  # no further than before: the attempt counts
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "worker_lost"
    assert await hung.wait() == ENGINE_GONE

    await site.worker()
    client = site.client(gateway, 50)
    await all_exact([client], [asyncio.create_task(client.run())])


async def test_answers_beside_a_hung_one_go_on_elsewhere(site: Cluster) -> None:
    gateway, hung = await site.gateway(), await site.worker(stall="1.0", max_attempts="9")
    client = site.client(gateway, 400)
    running = asyncio.create_task(client.run())
    await heard_some(client)
    poison = asyncio.create_task(site.http.post(gateway.url + CHAT, json={**hang(2), "stream": True}))
    await hung.wait()
    poison.cancel()
    await asyncio.gather(poison, return_exceptions=True)
    await site.worker()
    await all_exact([client], [running])
