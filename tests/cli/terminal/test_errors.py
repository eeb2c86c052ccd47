"""Every command that is used wrongly, or meets a world that is broken: a sentence and what to do, never a traceback."""

import asyncio
import re
import socket
import subprocess
from pathlib import Path

import pytest
import structlog

from millstream.cli import main as entry
from millstream.cli.faults import FAULT, tell
from millstream.common.broker.connection.broker import RedisAway
from millstream.common.errors import NotFound
from millstream.common.process.command import own_command
from millstream.common.settings import child_environment

DEAD = "redis://127.0.0.1:9/0"
AWAY = r"millstream: The queue \(Redis\) cannot be reached: .* Start it, or point MILLSTREAM_REDIS_URL at it;"
WRONG_URL = r"should be a URL such as http://127\.0\.0\.1:8000"
ASKS_REDIS = ("workers", "jobs", "usage", "top --once", "batches", "keys list", "models load m")
COMMANDS = {
    **dict.fromkeys((f"{command} --redis-url {DEAD}" for command in ASKS_REDIS), (1, AWAY)),
    "chat --gateway-url http://[::1": (2, WRONG_URL),
    "doctor --gateway-url nonsense": (2, WRONG_URL),
    "bench --base-url http://": (2, WRONG_URL),
    "chat --gateway-url http://127.0.0.1:9": (1, "Start one with: millstream up"),
    "bench --base-url http://127.0.0.1:9/v1 --model m --requests 2": (1, "None of 2 requests was answered by"),
    "bench --model m --dataset jsonl": (1, "A JSONL dataset needs its file"),
    "bench --model m --dataset jsonl --file /nope": (1, "/nope cannot be read"),
    "workers --redis-url redis://h:99999/0": (2, "--redis-url"),
    "up --state-dir /proc/nope --port 0": (1, "Set MILLSTREAM_STATE_DIR or HOME to another folder"),
    "up --log-file /proc/nope/x --port 0": (1, "Set --log-file or"),
    "up --host 203.0.113.7 --port 0": (1, r"Choose an address of this machine with --host \(MILLSTREAM_HOST\)"),
    "gateway --files-url s3://bucket": (2, r"MILLSTREAM_FILES_URL"),
    "gateway --ssl-certfile /nope.pem": (2, r"--ssl-certfile \(MILLSTREAM_SSL_CERTFILE\) /nope.pem cannot be read"),
    "worker --engine openai": (2, "needs --upstream URL"),
    "nonsense": (2, "No such command 'nonsense'"),
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_it_is_a_sentence_with_a_remedy(command: str, tmp_path: Path) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        own_command(*command.split()),
        env=dict(child_environment(state_dir=str(tmp_path))),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )
    status, words = COMMANDS[command]
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said
    assert re.search(words, said), said
    assert ended.returncode == status
    assert len(said.splitlines()) <= 4, said


async def test_a_port_that_is_taken_names_the_flag(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for command in ("gateway", "up"):
            arguments = (command, "--port", str(other.getsockname()[1]))
            environment = dict(child_environment(state_dir=str(tmp_path)))
            ended = await asyncio.to_thread(
                subprocess.run, own_command(*arguments), env=environment, capture_output=True, text=True, timeout=100
            )
            assert "Address already in use" in ended.stderr and "--port (MILLSTREAM_PORT)" in ended.stderr
            assert "Traceback" not in ended.stderr and ended.returncode in (1, 2)


def test_a_fault_of_ours_is_a_sentence_that_names_the_file_of_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken() -> None:
        {}["a key that is not there"]

    structlog.reset_defaults()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(entry, "app", broken)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    said = capsys.readouterr().err
    assert ended.value.code == FAULT
    assert "Traceback" not in said and said.count("\n") == 1
    (file,) = re.findall(r"\S+/millstream-\S+\.txt", said)
    assert "a key that is not there" in said and ", in broken" in Path(file).read_text()


def test_known_errors_in_a_group_are_sentences_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("", [NotFound("No model 'm'."), ExceptionGroup("", [NotFound("No model 'm'.")])])
    assert tell(group) == 1
    assert capsys.readouterr().err == "millstream: No model 'm'.\n"
    assert tell(RedisAway("Redis is away.", cause="unknown_host")) == 1
    assert "mend its DNS" in capsys.readouterr().err
    assert tell(FileNotFoundError(2, "No such file or directory", "/x/y.json")) == 1
    assert "Cannot use /x/y.json: No such file or directory" in capsys.readouterr().err
