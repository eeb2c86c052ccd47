"""Several gateway processes on one port, as a real command would run them."""

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import httpx
import psutil
import pytest

from tests.harness.support import wait_until

PROGRAM = """
from millstream.gateway.serve import serve
from millstream.gateway.settings import GatewaySettings
if __name__ == "__main__":
    raise SystemExit(serve(GatewaySettings(port={port}, processes=2, drain=1, redis_url="redis://127.0.0.1:1/0")))
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[Popen[bytes], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = tmp_path / "gateway_of_two.py"
    program.write_text(PROGRAM.format(port=port))
    root = Path(__file__).parents[3]
    process = Popen([sys.executable, program], cwd=root, env={"PYTHONPATH": str(root)})
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def healthy(http: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/health")).status_code == 200
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other kernels tell no child of its parent's death")
async def test_no_process_outlives_a_killed_parent(started: tuple[Popen[bytes], str]) -> None:
    process, url = started
    async with httpx.AsyncClient(base_url=url) as http:
        await wait_until(lambda: healthy(http), within=60, what="the gateway answers")
    serving = psutil.Process(process.pid).children(recursive=True)
    assert len(serving) >= 2
    process.kill()
    await wait_until(lambda: not any(child.is_running() for child in serving), within=60, what="all are gone")


async def test_two_processes_share_a_port_and_stop_together(started: tuple[Popen[bytes], str]) -> None:
    process, url = started
    async with httpx.AsyncClient(base_url=url) as http:
        await wait_until(lambda: healthy(http), within=60, what="the gateway answers")
        assert (await http.get("/ready")).status_code == 503  # there is no Redis, and it says so
    serving = psutil.Process(process.pid).children(recursive=True)
    assert len(serving) >= 2
    process.send_signal(signal.SIGTERM)
    await wait_until(lambda: process.poll() is not None, within=60, what="the supervisor ends")
    assert process.returncode == 0
    await wait_until(lambda: not any(child.is_running() for child in serving), what="its processes are gone")
