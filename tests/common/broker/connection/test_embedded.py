"""The embedded Valkey: its data, its port and its end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedFailed, EmbeddedValkey, free_port
from tests.harness.support import wait_until

# Servers are killed here while clients greet them, and redis-py now and then leaves such a connection to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ALWAYS = ["--appendfsync", "always"]  # with everysec, what is acknowledged while an fsync runs is in memory only


async def test_acknowledged_data_survives_kill_and_restart(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path, options=ALWAYS) as valkey, Redis.from_url(valkey.url) as client:
        url = valkey.url
        await client.xadd("stream", {"token": "1"}, id="0-1")
        await valkey.kill()
        with pytest.raises(RedisError):
            await client.ping()
        await valkey.restart()
        assert await client.xlen("stream") == 1
        assert valkey.url == url


async def test_killed_from_outside_it_comes_back_by_itself(own_valkey: EmbeddedValkey) -> None:
    before = own_valkey.pid

    async def answers() -> bool:
        try:
            async with Redis.from_url(own_valkey.url) as client:
                return bool(await client.ping()) and own_valkey.pid != before
        except RedisError:
            return False

    os.kill(before, signal.SIGKILL)
    await wait_until(answers)


async def test_next_start_has_the_data_and_the_port_of_the_last(tmp_path: Path) -> None:
    directory = tmp_path / "a place with spaces"
    async with EmbeddedValkey(directory) as first, Redis.from_url(first.url) as client:
        await client.set("kept", "yes")
    async with EmbeddedValkey(directory) as second, Redis.from_url(second.url) as client:
        assert await client.get("kept") == b"yes"
        assert second.url == first.url


async def test_the_port_wished_for_is_taken_if_it_is_free(tmp_path: Path) -> None:
    port = free_port()
    async with EmbeddedValkey(tmp_path, port) as valkey:
        assert valkey.port == port


async def test_a_taken_port_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        async with EmbeddedValkey(tmp_path, port=taken) as valkey, Redis.from_url(valkey.url) as client:
            assert valkey.port != taken
            assert await client.ping()


async def test_listens_on_loopback_only_and_never_evicts(own_valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(own_valkey.url, decode_responses=True) as client:
        config = await client.config_get("bind", "maxmemory-policy", "appendonly", "save")
    assert config == {"bind": "127.0.0.1", "maxmemory-policy": "noeviction", "appendonly": "yes", "save": ""}
    addresses = {c.laddr.ip for c in psutil.Process(own_valkey.pid).net_connections() if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


async def test_one_server_per_directory(
    own_valkey: EmbeddedValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.common.broker.embedded.LOCK_PATIENCE", 0.1)
    with pytest.raises(EmbeddedFailed, match=f"Process {os.getpid()} already runs"):
        async with EmbeddedValkey(tmp_path / "valkey"):
            pass


async def test_a_truncated_log_is_loaded_up_to_the_damage(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path, options=ALWAYS) as valkey, Redis.from_url(valkey.url) as client:
        await client.set("first", "1")
        await client.set("second", "2")
        await valkey.kill()
        tail = next(tmp_path.glob("appendonlydir/*.incr.aof"))
        os.truncate(tail, tail.stat().st_size - 3)
        await valkey.restart()
        assert await client.mget("first", "second") == [b"1", None]


async def test_a_server_that_cannot_start_tells_why(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedFailed, match="ended at its start"):
        async with EmbeddedValkey(tmp_path, options=["--maxmemory-policy", "nonsense"]):
            pass
    async with EmbeddedValkey(tmp_path):  # and leaves the directory free
        pass


async def test_it_dies_with_an_owner_that_was_killed(tmp_path: Path) -> None:
    owner = textwrap.dedent(f"""
        import asyncio, pathlib
        from millstream.common.broker.embedded import EmbeddedValkey
        async def main():
            async with EmbeddedValkey(pathlib.Path({str(tmp_path)!r})) as valkey:
                print(valkey.pid, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = next(int(line) for line in iter(process.stdout.readline, "") if line.strip().isdigit())
        assert psutil.pid_exists(pid)
        process.kill()
    await wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    async with EmbeddedValkey(tmp_path):
        await asyncio.sleep(0)


async def test_a_folder_behind_a_link_and_half_a_memory_of_the_port_are_fine(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    (real / "port").write_text("")  # a crash can leave it so
    link.symlink_to(real)
    async with EmbeddedValkey(link) as valkey, Redis.from_url(valkey.url) as client:
        assert await client.ping()
    assert (real / "port").read_text() == str(valkey.port)


async def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedFailed, match=r"file/valkey: Not a directory.*--state-dir"):
        async with EmbeddedValkey(tmp_path / "file" / "valkey"):
            pass


async def test_a_damaged_log_is_told_with_the_way_out(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey, Redis.from_url(valkey.url) as client:
        await client.set("a", "b" * 1000)
    (log,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*1\r\nnonsense\r\n" + log.read_bytes())
    with pytest.raises(EmbeddedFailed, match=r"Move .* away"):
        async with EmbeddedValkey(tmp_path):
            pass


@pytest.mark.parametrize("name", ["ä b 模型".encode(), b"\xe4 of another encoding"])
async def test_its_folder_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    async with EmbeddedValkey(tmp_path / os.fsdecode(name)) as valkey, Broker(valkey.url) as broker:
        await broker.ping()
