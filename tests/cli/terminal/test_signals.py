"""Signals and limits as the system gives them to a process: told to stop in its first moments, its terminal closed, few
files."""

import asyncio
import errno
import json
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from millstream.common.broker.embedded import free_port
from millstream.common.process.command import own_command
from millstream.common.process.open_files import MOST_FILES, SAY_AGAIN, watch_open_files
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


async def gateway(
    *settings: str, limit: tuple[int, int] | None = None, err: Path | None = None
) -> tuple[subprocess.Popen[str], str]:
    port = free_port()
    told = err.open("w") if err else None
    process = subprocess.Popen(
        own_command("gateway", "--port", str(port), "--redis-url", AWAY, *settings),
        env=dict(child_environment()),
        stderr=told or subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)) if limit else None,
    )
    if told:
        told.close()
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
async def test_a_gateway_without_room_for_connections_says_so_once_and_what_helps(tmp_path: Path) -> None:
    few = 64
    process, url = await gateway("--log-format", "json", limit=(few, few), err=tmp_path / "log")
    port = int(url.rpartition(":")[2])
    try:
        await wait_until(lambda: alive(url), within=60)
        with ExitStack() as held:
            for _ in range(2 * few):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))
            await wait_until(lambda: bool(shortages(tmp_path / "log")), within=60)
        await wait_until(lambda: alive(url), within=60)  # it goes on when there is room again
    finally:
        process.kill()
        process.wait()
    [told] = shortages(tmp_path / "log")
    assert told["limit"] == few and told["level"] == "error"
    assert told["error"].startswith("Too many open files: new connections are refused. This process may have 64 open.")
    assert "LimitNOFILE" in told["error"]
    assert "Traceback" not in (tmp_path / "log").read_text()


def shortages(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "too_many_open_files"]


async def test_a_shortage_that_lasts_is_told_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.0, SAY_AGAIN - 1, SAY_AGAIN, SAY_AGAIN])
    looked = asyncio.Event()

    def now() -> float:
        moment = next(moments, None)
        if moment is None:
            looked.set()
        return moment if moment is not None else SAY_AGAIN

    def full(path: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("millstream.common.process.open_files.LOOK_EVERY", 0)
    monkeypatch.setattr("millstream.common.process.open_files.os.open", full)
    with capture_logs() as lines:
        watching = asyncio.create_task(watch_open_files(now))
        await looked.wait()
        watching.cancel()
    assert [line["event"] for line in lines] == ["too_many_open_files"] * 2
