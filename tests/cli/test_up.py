"""`millstream up`: one command, a working cluster, and nothing left over however it ends."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil
from redis.asyncio import Redis

from tests.cli.up_process import UpProcess, gone, up
from tests.harness.support import wait_until

QUESTION = {"model": "sim", "messages": [{"role": "user", "content": "hi"}]}


def events_of(answer: str) -> list[str]:
    return [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: ")]


async def ask(address: str, **more: object) -> httpx.Response:
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        return await client.post("/chat/completions", json={**QUESTION, **more})


async def test_the_printed_line_answers_and_the_next_start_has_the_data(tmp_path: Path) -> None:
    with up(tmp_path) as first:
        await first.ready()
        pasted = await asyncio.to_thread(subprocess.run, "curl " + first.line("curl "), shell=True, capture_output=True)
        events = events_of(pasted.stdout.decode())
        assert events[-1] == "[DONE]", pasted
        job = json.loads(events[0])["id"]
        queue = first.queue()
        family = first.family()
        assert len(family) >= 3  # queue, gateway, worker
        assert await first.end() == 0
        assert all(map(gone, family))
    with up(tmp_path) as second:
        await second.ready()
        assert second.queue() == queue
        async with Redis.from_url(queue, decode_responses=True) as client:
            assert await client.hget(f"ms:{{sim}}:job:{job}", "state") == "finished"
        assert await second.end(signal.SIGTERM) == 0


async def test_a_killed_worker_is_replaced_and_its_answer_goes_on(tmp_path: Path) -> None:
    """With a lease of a minute: it is the supervisor that moves the job, not the lease's end."""
    with up(tmp_path, "--workers", "2", "--lease", "60", simulated_rate="50") as cluster:
        address = await cluster.ready()
        await wait_until(lambda: "worker-2: ready" in cluster.out)
        whole = (await ask(address, seed=1, max_tokens=100)).json()["choices"][0]["message"]["content"]
        answer = asyncio.create_task(ask(address, seed=1, max_tokens=100))
        busy, size = await busy_worker(cluster), len(cluster.family())
        busy.kill()
        body = (await answer).json()
        assert body["choices"][0]["message"]["content"] == whole
        await wait_until(lambda: len(cluster.family()) == size and busy not in cluster.family())
        told = await wait_until(lambda: life_of(body["id"], cluster))
        assert [(event["event"], event.get("attempt")) for event in told] == [
            ("jobs_submitted", None),
            ("job_claimed", 0),
            ("job_claimed", 0),
            ("job_ended", 0),
        ]
        assert len({event["worker"] for event in told[1:]}) == 2
        assert all(event["model"] == "sim" for event in told)
        assert await cluster.end() == 0


def life_of(job: str, cluster: UpProcess) -> list[dict[str, Any]]:
    """The log's events about a job, its submission first, once its end is among them."""
    events = [json.loads(line) for line in cluster.err if line.startswith("{")]
    submitted = [event for event in events if event["event"] == "jobs_submitted" and job in event["jobs"]]
    told = [event for event in events if event.get("job") == job]
    return submitted + told if told and told[-1]["event"] == "job_ended" else []


async def busy_worker(cluster: UpProcess) -> psutil.Process:
    """The process of the worker that runs a job now."""

    async def find() -> str | None:
        async with Redis.from_url(cluster.queue(), decode_responses=True) as client:
            load = await client.zrange("ms:{sim}:load", -1, -1, withscores=True)
            return await client.hget(f"ms:{{sim}}:worker:{load[0][0]}", "pid") if load and load[0][1] else None

    return psutil.Process(int(await wait_until(find)))


async def test_kill_nine_of_up_leaves_no_process(tmp_path: Path) -> None:
    with up(tmp_path) as cluster:
        await cluster.ready()
        family = cluster.family()
        cluster.process.kill()
        await wait_until(lambda: all(map(gone, family)))


async def test_a_second_ctrl_c_does_not_wait_for_answers(tmp_path: Path) -> None:
    with up(tmp_path, "--drain", "600", simulated_rate="1") as cluster:
        answer = asyncio.create_task(ask(await cluster.ready(), max_tokens=1000))
        await busy_worker(cluster)
        family = cluster.family()
        cluster.process.send_signal(signal.SIGINT)
        await wait_until(lambda: cluster.line("Stopping"))
        assert await cluster.end(signal.SIGINT) == 0
        assert all(map(gone, family))
        await asyncio.gather(answer, return_exceptions=True)


async def test_what_all_parts_must_agree_on_reaches_them(tmp_path: Path) -> None:
    with up(tmp_path, "--lease", "31.5", "--retention", "77", "--max-attempts", "9") as cluster:
        await cluster.ready()
        given = [process.environ() for process in cluster.family() if "valkey" not in process.name()]
        names = [f"MILLSTREAM_{name}" for name in ("LEASE", "RETENTION", "MAX_ATTEMPTS")]
        assert {tuple(map(each.get, names)) for each in given} == {("31.5", "77.0", "9")}
        assert await cluster.end() == 0


async def test_its_terminal_closed_it_ends_like_ctrl_c_but_not_under_nohup(tmp_path: Path) -> None:
    with up(tmp_path) as cluster:
        await cluster.ready()
        family = cluster.family()
        assert await cluster.end(signal.SIGHUP) == 0
        assert all(map(gone, family))
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which a child inherits
    try:
        with up(tmp_path) as cluster:
            await cluster.ready()
            cluster.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(subprocess.run, "curl -sS -m 30 " + cluster.line("curl "), shell=True)
            assert not cluster.line("Stopping")
            assert await cluster.end() == 0
    finally:
        signal.signal(signal.SIGHUP, ignored)


async def test_a_wrong_setting_of_the_gateway_is_one_line(tmp_path: Path) -> None:
    with up(tmp_path, keep_alive="often") as cluster:
        await wait_until(lambda: cluster.process.poll() is not None)
    assert cluster.process.returncode == 2
    assert "MILLSTREAM_KEEP_ALIVE" in "\n".join(cluster.err)
    assert "Traceback" not in "\n".join(cluster.err)


async def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with up(tmp_path, "--port", str(port)) as cluster:
            await wait_until(lambda: cluster.process.poll() is not None)
    assert cluster.process.returncode == 1
    assert f"port {port}" in cluster.err[-1]
    assert "--port (MILLSTREAM_PORT)" in cluster.err[-1]


async def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-model.gguf")
    with up(tmp_path, "--engine", "transformers", "--model", missing, hf_hub_offline="1") as cluster:
        await wait_until(lambda: cluster.process.poll() is not None, within=110)
    assert cluster.process.returncode == 1
    assert missing in "\n".join(cluster.err)
    assert any("worker-1 ended with status 2" in line for line in cluster.err)


async def test_on_a_terminal_progress_is_drawn_and_the_line_is_not_wrapped(tmp_path: Path) -> None:
    """The pseudo-terminal is 40 columns wide: a pasted line must not have line ends of ours in it."""
    import fcntl
    import pty
    import struct
    import termios

    from millstream.common.process.command import own_command
    from millstream.common.settings import child_environment

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    arguments = ["--engine", "simulated", "--model", "sim", "--port", "0", "--valkey-port", "0"]
    command = own_command("up", "--state-dir", str(tmp_path), *arguments)
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=dict(child_environment()))
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def read() -> bool:
        try:
            seen.extend(os.read(ours, 1 << 16))
        except OSError:
            pass  # nothing there now, or the other side is closed
        return b"Ctrl-C stops everything." in seen

    try:
        await wait_until(read, within=60)
        process.send_signal(signal.SIGINT)
        await wait_until(lambda: read() and process.poll() is not None, within=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    text = seen.decode(errors="replace")
    assert "\x1b[" in text  # colours or a progress display
    assert '"What is the capital of France?"}]}\'' in text
    assert process.returncode == 0


async def test_nothing_stays_behind_a_terminal_that_was_closed(tmp_path: Path) -> None:
    """The last words of `up` cannot be written any more; it stops all the same."""
    import pty

    from millstream.common.process.command import own_command
    from millstream.common.settings import child_environment

    ours, theirs = pty.openpty()
    arguments = ["--engine", "simulated", "--model", "sim", "--port", "0", "--valkey-port", "0"]
    command = own_command("up", "--state-dir", str(tmp_path), *arguments)
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=dict(child_environment()))
    os.close(theirs)
    try:
        await wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 4, within=60)
        family = psutil.Process(process.pid).children(recursive=True)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        await wait_until(lambda: process.poll() is not None, within=60)
        assert process.returncode == 0
        assert all(map(gone, family))
    finally:
        process.kill()
        process.wait()
