"""A Sentinel of the test's own, beside a primary and its replica."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from millstream.common.broker.embedded import EmbeddedValkey, free_port, server_binary

SERVICE = "mymaster"


@contextmanager
def sentinel_of(primary: EmbeddedValkey, folder: Path) -> Iterator[int]:
    """One Sentinel that agrees with itself quickly; its port."""
    port, folder = free_port(), folder / "sentinel"
    folder.mkdir()
    (folder / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
        f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 2000\n"
    )
    command = [server_binary(), str(folder / "sentinel.conf"), "--sentinel"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def knows_its_replica(port: int) -> bool:
    """Tells whether the Sentinel could fail over now."""
    async with Redis(host="127.0.0.1", port=port, decode_responses=True) as sentinel:
        try:
            [state] = (await sentinel.sentinel_masters()).values()
        except (ValueError, OSError, RedisError):  # not listening yet, or no master known yet
            return False
        return state["num-slaves"] >= 1
