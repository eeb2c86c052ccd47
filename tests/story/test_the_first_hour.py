"""The first hour of a new user, with the real model: start it, ask it, look inside, add a worker, stop it.

Read from top to bottom: each test goes on where the one before it stopped.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from openai import OpenAI
from redis import Redis

from tests.story.terminal import PATIENCE, Terminal, up

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

MODEL = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """She types `millstream up`."""
    with up(tmp_path_factory.mktemp("home"), MILLSTREAM_MAX_MODEL_LEN="2048") as typed:
        yield typed


@pytest.fixture(scope="module")
def address(terminal: Terminal) -> str:
    return terminal.find(r"address +(\S+)")


@pytest.fixture(scope="module")
def client(address: str) -> OpenAI:
    return OpenAI(base_url=address, api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def redis(terminal: Terminal) -> Iterator[Redis]:
    """An operator connects as with redis-cli: the banner says where the password is."""
    password = Path(terminal.find(r"password +(\S+),")).read_text().strip()
    url = terminal.find(r"queue +(\S+)").replace("***", password)
    with Redis.from_url(url, decode_responses=True) as connection:
        yield connection


def test_it_says_what_to_paste_and_pasting_it_works(terminal: Terminal, address: str) -> None:
    line = terminal.find(r"(curl .+)")
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert "Paris" in "".join(
        json.loads(data)["choices"][0]["delta"].get("content") or "" for data in events(answer.stdout)
    )
    assert answer.stdout.rstrip().endswith("data: [DONE]")


def events(stream: str) -> list[str]:
    return [line[6:] for line in stream.splitlines() if line.startswith("data: {")]


def test_the_openai_client_gets_the_same_answer_streamed_and_whole(client: OpenAI) -> None:
    ask = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model=MODEL, messages=ask, temperature=0, max_tokens=20)  # type: ignore[arg-type]
    stream = client.chat.completions.create(
        model=MODEL,
        messages=ask,  # type: ignore[arg-type]
        temperature=0,
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole.choices[0].message.content == "The capital of France is Paris."
    assert chunks[-1].usage == whole.usage
    assert whole.choices[0].finish_reason == "stop"


def test_redis_tells_the_whole_story(redis: Redis) -> None:
    model = "ms:{" + MODEL + "}:"
    jobs = list(redis.scan_iter(f"{model}job:*"))
    job = redis.hgetall(jobs[0])
    assert (job["state"], job["tier"], job["attempt"]) == ("finished", "default", "0")
    log = redis.xrange(jobs[0].replace(":job:", ":chunks:"))
    assert [entry for entry, _ in log] == [f"0-{i}" for i in range(1, len(log) + 1)]
    text = "".join(json.loads(fields["c"]).get("text", "") for _, fields in log)
    assert "Paris" in text
    assert redis.zrange(f"{model}load", 0, -1, withscores=True)[0][1] == 0


def test_a_second_worker_takes_its_share_without_another_step(terminal: Terminal, redis: Redis, address: str) -> None:
    command = [sys.executable, "-m", "millstream.cli.main", "worker"]  # it finds the queue of this machine's `up`
    second = subprocess.Popen(command, env=terminal.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        leases = "ms:{" + MODEL + "}:leases"
        deadline = time.monotonic() + PATIENCE
        while redis.zcard(leases) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert served_by(redis, address, 8) == set(redis.zrange(leases, 0, -1))
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE) == 0
    assert redis.zcard(leases) == 1


def served_by(redis: Redis, address: str, requests: int) -> set[str]:
    """Returns which workers ran so many requests that were open at the same time."""
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 24, "n": requests}
    answer = httpx.post(f"{address}/completions", json=body, timeout=PATIENCE).json()
    jobs = [f"ms:{{{MODEL}}}:job:{answer['id']}-{i}" for i in range(requests)]
    return {redis.hget(job, "lease").split(":", 1)[1] for job in jobs}


def test_ctrl_c_leaves_nothing(terminal: Terminal, address: str, redis: Redis) -> None:
    family = psutil.Process(terminal.process.pid).children(recursive=True)
    assert len(family) >= 3  # valkey, gateway, worker
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(PATIENCE) == 0
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
