"""`millstream up` on a terminal: what starts, what is ready, what matters; the log is in a file that it names."""

import asyncio
import re
import signal
import stat
from pathlib import Path

import httpx
import psutil

from tests.cli.terminal.pseudo_terminal import PseudoTerminal, in_terminal
from tests.cli.up_process import up
from tests.harness.support import wait_until

SIMULATED = ("--engine", "simulated", "--model", "sim", "--port", "0", "--valkey-port", "0")
LOG_LINE = re.compile(r"\[(info|warning|error) +\]")
READY = r"Ctrl-C stops everything\."


def started(state: Path, *more: str) -> tuple[str, ...]:
    return ("up", "--state-dir", str(state), *SIMULATED, *more)


def part(terminal: PseudoTerminal, command: str) -> psutil.Process:
    """The process that runs a command of ours for `up`."""
    family = psutil.Process(terminal.process.pid).children(recursive=True)
    return next(each for each in family if command in each.cmdline() and "import main" in " ".join(each.cmdline()))


async def test_it_is_calm_and_its_log_is_in_the_file_that_it_names(tmp_path: Path) -> None:
    with in_terminal(*started(tmp_path)) as terminal:
        log = Path(await terminal.shows(r"log +(\S+);"))
        await terminal.shows(READY)
        await terminal.shows("background: ready")
        assert {"gateway: ready", "worker-1: ready", "background: ready"} <= {*terminal.lines}
        assert re.search(r"page +http://127.0.0.1:\d+/", terminal.text)
        assert not LOG_LINE.search(terminal.text)
        written = log.read_text()
        assert "listening" in written and "loaded" in written and "\x1b" not in written
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        terminal.ctrl_c()
        assert await terminal.ended() == 0
        assert "worker_left" in log.read_text()
        assert {"gateway: stopped", "background: stopped", "worker-1: stopped"} <= {*terminal.lines}


async def test_a_dead_part_and_its_return_are_one_line_each_whatever_the_log_level(tmp_path: Path) -> None:
    with in_terminal(*started(tmp_path), log_level="error") as terminal:
        await terminal.shows(READY)
        part(terminal, "worker").send_signal(signal.SIGKILL)
        await terminal.shows("worker-1: back")
        part(terminal, "gateway").send_signal(signal.SIGKILL)
        await terminal.shows("gateway: back")
        after = terminal.lines[terminal.lines.index("Ctrl-C stops everything.") + 1 :]
        assert [line for line in after if line.startswith(("worker-1", "gateway"))] == [
            "worker-1: was killed by SIGKILL; it is started again",
            "worker-1: back",
            "gateway: was killed by SIGKILL; it is started again",
            "gateway: back",
        ]
        log = Path(await terminal.shows(r"log +(\S+);"))
        assert "listening" not in log.read_text()  # the file has what the level names, and nothing below it


async def test_a_queue_that_dies_is_told_once_and_comes_back(tmp_path: Path) -> None:
    with in_terminal(*started(tmp_path)) as terminal:
        await terminal.shows(READY)
        server = next(
            child for child in psutil.Process(terminal.process.pid).children(recursive=True) if "valkey" in child.name()
        )
        server.kill()
        await terminal.shows("queue: back")
        told = [line for line in terminal.lines if line.startswith("queue: ")][1:]
        by_up, by_a_part = "the embedded Valkey was killed by SIGKILL; it is started again", "The parts wait for it."
        assert told[0].endswith((by_up, by_a_part))  # whoever notices first
        assert told[-1] == "queue: back" and len(told) == 2, told


async def test_verbose_shows_the_log(tmp_path: Path) -> None:
    with in_terminal(*started(tmp_path, "--verbose")) as terminal:
        await terminal.shows(READY)
        await wait_until(lambda: LOG_LINE.search(terminal.text))
        assert "listening" in terminal.text
        assert not (tmp_path / "log").exists()


async def test_ctrl_c_says_what_it_waits_for(tmp_path: Path) -> None:
    with in_terminal(*started(tmp_path, "--drain", "600"), simulated_rate="1") as terminal:
        address = await terminal.shows(r"address +(\S+)")
        question = {"model": "sim", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000}
        async with httpx.AsyncClient(timeout=60) as client:
            answer = asyncio.create_task(client.post(f"{address}/chat/completions", json=question))
            await terminal.shows(READY)
            await wait_until(lambda: "job_claimed" in (tmp_path / "log" / "up.log").read_text())
            terminal.ctrl_c()
            await terminal.shows(r"Stopping: running answers may finish, for 600 s at most")
            await terminal.shows("gateway: waits for 1 answer ")
            await terminal.shows("worker-1: 1 answer still running")
            terminal.ctrl_c()
            assert await terminal.ended() == 0
            await asyncio.gather(answer, return_exceptions=True)


async def test_a_model_that_is_missing_is_told_with_its_log(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-model.gguf")
    arguments = ["up", "--state-dir", str(tmp_path), "--port", "0", "--valkey-port", "0", "--engine", "transformers"]
    with in_terminal(*arguments, "--model", missing, hf_hub_offline="1") as terminal:
        assert await terminal.ended(within=110) == 1
        assert "worker-1 ended with status 2" in terminal.text
        assert missing in terminal.text.replace("\n", "")
        assert str(tmp_path / "log" / "up.log") in terminal.text
        assert "Traceback" not in terminal.text


async def test_where_the_file_cannot_be_written_the_log_is_shown(tmp_path: Path) -> None:
    """A path that goes through a file can be made by nobody, whatever his rights."""
    (tmp_path / "log").write_text("a file in the folder's place")
    with in_terminal(*started(tmp_path)) as terminal:
        await terminal.shows(READY)
        told = terminal.text.replace("\n", " ")
        assert re.search(r"Cannot write to \S+/log: .*It is shown here instead\.", told)
        assert LOG_LINE.search(terminal.text)


async def test_without_a_terminal_there_are_plain_lines_and_the_log_as_before(tmp_path: Path) -> None:
    with up(tmp_path) as cluster:
        await cluster.ready()
        assert await cluster.end() == 0
    out, err = "\n".join(cluster.out), "\n".join(cluster.err)
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", out + err)
    assert all(line.startswith("{") for line in cluster.err), err
    assert "worker-1: ready" in cluster.out and "gateway: stopped" in cluster.out
    assert not (tmp_path / "log").exists()


async def test_a_named_file_takes_the_log_without_a_terminal_too(tmp_path: Path) -> None:
    log = tmp_path / "elsewhere" / "m.log"
    with up(tmp_path, "--log-file", str(log), "--log-format", "json") as cluster:
        await cluster.ready()
        assert await cluster.end() == 0
    assert not cluster.err
    assert '"event": "listening"' in log.read_text()
