"""Each part alone, the queue last: they wait, say so once, and work as soon as it is there."""

import json
import socket
from pathlib import Path

import httpx
import psutil

from millstream.common.broker.embedded import EmbeddedValkey, free_port
from tests.gateway.background.processes import processes
from tests.harness.support import wait_until


async def test_gateway_and_worker_wait_for_a_queue_that_comes_later(tmp_path: Path) -> None:
    port, reserved = free_port(), socket.socket()
    reserved.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else gets it
    queue = int(reserved.getsockname()[1])
    with processes(f"redis://127.0.0.1:{queue}/0", tmp_path) as parts, reserved:
        parts.start("worker", "worker", "--engine", "simulated", "--model", "sim")
        parts.start("gateway", "gateway", "--port", str(port))
        for name in ("worker", "gateway"):
            await wait_until(lambda name=name: "waiting_for_redis" in parts.log(name), within=60)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/health")).status_code == 200
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()["redis"]) == (503, False)
            reserved.close()
            async with EmbeddedValkey(tmp_path / "queue", queue):
                await wait_until(lambda: _ready(client), within=60)
                sockets = psutil.Process(parts.running["worker"].pid).net_connections()
                assert {each.status for each in sockets} == {"ESTABLISHED"}  # it dials out and opens no port
                assert [parts.running[name].poll() for name in ("worker", "gateway")] == [None, None]
                for name in ("worker", "gateway"):
                    await wait_until(lambda name=name: _events(parts.log(name)).count("redis_back") == 1)
        for name in ("worker", "gateway"):
            told = _events(parts.log(name))
            assert told.index("waiting_for_redis") < told.index("redis_back")
            assert told[: told.index("redis_back")].count("waiting_for_redis") == 1
            assert told[: told.index("redis_back")].count("frames_lost") <= 1


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/ready")).status_code == 200


def _events(log: str) -> list[str]:
    return [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]
