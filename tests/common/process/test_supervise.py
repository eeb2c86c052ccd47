"""Children are restarted, listened to, given up when hopeless, and never left over."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from millstream.common.process.backoff import Backoff
from millstream.common.process.supervise import Child, ChildExit, GaveUp, Program
from tests.harness.support import wait_until

OBEDIENT = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def python(code: str) -> Program:
    return Program("test", [sys.executable, "-c", code])


@asynccontextmanager
async def running(child: Child) -> AsyncIterator[None]:
    task = asyncio.create_task(child.run())
    yield
    await child.stop(patience=5)
    await task


async def test_a_killed_child_comes_back_and_its_end_is_told() -> None:
    lines: list[str] = []
    exits: list[ChildExit] = []

    async def on_exit(exit: ChildExit) -> None:
        exits.append(exit)

    child = Child(python(OBEDIENT), lines.append, on_exit)
    async with running(child):
        await wait_until(lambda: lines == ["up"])
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: lines == ["up", "up"])
        assert child.pid != first
        assert (exits[0].pid, exits[0].status, exits[0].expected) == (first, -signal.SIGKILL, False)
    assert exits[-1].expected
    assert child.pid is None


async def test_a_child_that_ignores_sigterm_is_killed_in_the_end() -> None:
    lines: list[str] = []
    child = Child(python(STUBBORN), lines.append)
    task = asyncio.create_task(child.run())
    await wait_until(lambda: lines)
    await child.stop(patience=0.1)
    await task
    assert child.pid is None


async def test_wrong_settings_are_not_tried_again() -> None:
    child = Child(python("import sys; print('--model: no such folder'); sys.exit(2)"), lambda line: None)
    with pytest.raises(GaveUp) as gave_up:
        await child.run()
    assert gave_up.value.exit.last_lines == ("--model: no such folder",)


async def test_a_child_that_never_gets_ready_is_given_up_but_not_one_that_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "take", lambda self: 0.0)
    ends: list[ChildExit] = []

    async def on_exit(exit: ChildExit) -> None:
        ends.append(exit)

    with pytest.raises(GaveUp):
        await Child(python("raise SystemExit(1)"), lambda line: None, on_exit).run()
    first_try = len(ends)
    proven = Child(python("raise SystemExit(1)"), lambda line: None, on_exit)
    proven.ready()
    async with running(proven):
        await wait_until(lambda: len(ends) > 2 * first_try + 1)


async def test_stop_before_or_during_the_start_leaves_nothing() -> None:
    child = Child(python(OBEDIENT), lambda line: None)
    task = asyncio.create_task(child.run())
    await asyncio.sleep(0)  # the process is being made
    await child.stop(patience=5)
    await task
    assert child.pid is None


async def test_output_without_end_does_not_stop_the_listening() -> None:
    lines: list[str] = []
    child = Child(
        python("print('x' * 3_000_000); print('after', flush=True); import time; time.sleep(600)"), lines.append
    )
    async with running(child):
        await wait_until(lambda: "after" in lines)


@pytest.mark.parametrize("kernel_helps", [True, False])
async def test_a_leashed_command_dies_with_its_killed_owner(kernel_helps: bool, tmp_path: Path) -> None:
    """With the kernel's death signal, and with the watching in-between process of other systems."""
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    owner = f"""
import subprocess, sys
import millstream.common.process.leash as leash
command = leash.leashed([sys.executable, "-c", {code!r}], 15)
if not {kernel_helps}:
    source = "import millstream.common.process.leash as l, sys; l.die_with_parent = lambda n: False; "
    source += "sys.exit(l.main(sys.argv[1:]))"
    command = [sys.executable, "-c", source, *command[4:]]
subprocess.Popen(command)
import time; time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner]) as process:
        pid = await wait_until(lambda: int(pid_file.read_text() or 0) if pid_file.exists() else 0)
        assert psutil.Process(pid).is_running()
        process.kill()
    await wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_leash_whose_owner_is_already_gone_starts_nothing() -> None:
    not_our_parent = str(os.getpid())
    code = "import millstream.common.process.leash as l, sys; "
    code += f"sys.exit(l.main(['15', '{int(not_our_parent) + 1}', 'false-command']))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
