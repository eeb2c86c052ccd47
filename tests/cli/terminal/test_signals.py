"""Signals and limits as the system gives them to a process: told to stop in its first moments, its terminal closed, few
files."""

import asyncio
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from millstream.common.broker.embedded import free_port
from millstream.common.process.command import own_command
from millstream.common.process.loop import MOST_FILES
from millstream.common.settings import child_environment
from tests.harness.support import wait_until

AWAY = "redis://127.0.0.1:9/0"
AT_ITS_IMPORTS = """
import os, signal, sys, importlib.abc

class Stop(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stop())
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("gateway", "millstream.gateway.serve"),
        ("worker", "millstream.worker.app"),
        ("background", "millstream.gateway.background.app"),
    ],
)
async def test_a_stop_while_a_part_is_still_being_imported_ends_it(command: str, module: str) -> None:
    """The first process of a container has no default action for signals: a handler of ours must be there by then."""
    [python, *flags, code] = own_command()
    program = AT_ITS_IMPORTS.format(module=module) + code
    arguments = [python, *flags, program, command, "--redis-url", AWAY]
    ended = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr  # not minus the signal: it was handled
    assert "Traceback" not in ended.stderr


async def gateway(*settings: str, limit: tuple[int, int] | None = None) -> tuple[subprocess.Popen[str], str]:
    port = free_port()
    process = subprocess.Popen(
        own_command("gateway", "--port", str(port), "--redis-url", AWAY, *settings),
        env=dict(child_environment()),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)) if limit else None,
    )
    return process, f"http://127.0.0.1:{port}"


async def alive(url: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{url}/health")).status_code == 200
    except httpx.HTTPError:
        return False


async def test_a_gateway_whose_terminal_is_closed_stops_in_good_order() -> None:
    process, url = await gateway()
    try:
        await wait_until(lambda: alive(url), within=60)
        process.send_signal(signal.SIGHUP)
        await wait_until(lambda: process.poll() is not None, within=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
async def test_a_gateway_raises_its_soft_limit_of_open_files() -> None:
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], MOST_FILES)
    process, url = await gateway(limit=(256, hard))
    try:
        await wait_until(lambda: alive(url), within=60)
        assert f"{hard}" in Path(f"/proc/{process.pid}/limits").read_text().split("Max open files")[1].split()[0]
    finally:
        process.kill()
        _, err = process.communicate()
    listening = next(json.loads(line) for line in err.splitlines() if '"listening"' in line)
    assert listening["open_files"] == hard
