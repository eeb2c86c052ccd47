"""Users of any number, without a home, where nothing may be written: each command does what needs no folder, and names
the setting for what does."""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from millstream.common.broker.embedded import free_port
from millstream.common.process.command import own_command
from tests.harness.support import wait_until

ANYBODY = 54321  # no file of users knows it
READS = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # the interpreter may lie in a home
AS_ANYBODY = ["setpriv", "--reuid", str(ANYBODY), "--regid", str(ANYBODY), "--clear-groups", *READS]
DEAD = "redis://127.0.0.1:9"
STATE = r"Set MILLSTREAM_STATE_DIR or HOME to another folder\."
FILES = r"files_url \(MILLSTREAM_FILES_URL\) `\S+` cannot be used: "

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root becomes somebody else"
)


def surroundings(home: str | None) -> dict[str, str]:
    hidden = ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "MILLSTREAM_STATE_DIR", "MILLSTREAM_FILES_URL")
    measured = "COVERAGE_"  # nobody's processes cannot write what they reached
    kept = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith(measured)}
    return kept | ({"HOME": home} if home else {})


@pytest.mark.parametrize(
    ("command", "home", "status", "words"),
    [
        (f"doctor --redis-url {DEAD}", None, 1, r"Start it, or point MILLSTREAM_REDIS_URL at it"),
        ("chat --gateway-url http://127.0.0.1:9", None, 1, r"Start one with: millstream up"),
        (f"gateway --port 0 --redis-url {DEAD}", None, 2, rf"{FILES}this user has no home folder\."),
        (f"background --redis-url {DEAD}", None, 2, rf"{FILES}this user has no home folder\."),
        ("up --engine simulated --port 0", None, 1, rf"this user has no home folder\. {STATE}"),
        ("up --engine simulated --port 0", "/", 1, rf"Permission denied\. {STATE}"),
    ],
)
async def test_it_is_a_sentence_that_names_the_setting(command: str, home: str | None, status: int, words: str) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [*AS_ANYBODY, *own_command(*command.split())],
        env=surroundings(home),
        cwd="/",
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )
    said = ended.stdout + ended.stderr
    assert re.search(words, said) and "Traceback" not in said, said
    assert ended.returncode == status


def started(command: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as told:
        return subprocess.Popen(
            [*AS_ANYBODY, *own_command(*command)], env=surroundings(None), cwd="/", stdout=told, stderr=told
        )


async def test_what_needs_no_folder_runs(tmp_path: Path) -> None:
    """A gateway whose files lie elsewhere, and a simulated worker: neither writes anything of its own."""
    port = free_port()
    commands = (
        ("gateway", "--port", str(port), "--redis-url", DEAD, "--files-url", "/nowhere/files"),
        ("worker", "--engine", "simulated", "--redis-url", DEAD),
    )
    processes = [started(command, tmp_path / command[0]) for command in commands]
    try:
        async with httpx.AsyncClient(trust_env=False) as http:

            async def alive() -> bool:
                try:
                    return (await http.get(f"http://127.0.0.1:{port}/health")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until(alive, within=60)
        for command in commands:
            log = tmp_path / command[0]
            await wait_until(lambda log=log: "waiting_for_redis" in log.read_text(), within=60)
        assert [process.poll() for process in processes] == [None, None]
    finally:
        for process in processes:
            process.terminate()
            process.wait(60)
    assert not any("Traceback" in (tmp_path / command[0]).read_text() for command in commands)
