# redis-py leaves its replies untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false
"""Sentinels beside a primary and its replica, as processes of their own."""

import signal
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

from millstream.common.broker.connection.broker import open_client, redis_errors
from millstream.common.broker.embedded import EmbeddedValkey, free_port, server_binary
from millstream.common.errors import Unavailable
from millstream.common.process.leash import leashed

SERVICE = "mymaster"
DOWN_AFTER = 500  # milliseconds of silence until a Sentinel takes the primary for dead
FAILOVER_TIMEOUT = 2000  # milliseconds; a fail-over that failed is tried again after twice as long


@contextmanager
def sentinels_of(primary: EmbeddedValkey, folder: Path, count: int = 1) -> Generator[list[int]]:
    """Starts so many Sentinels, most of which must agree that the primary is dead; yields their ports."""
    with ExitStack() as stack:
        yield [stack.enter_context(_sentinel(primary, folder / f"sentinel-{i}", count // 2 + 1)) for i in range(count)]


@contextmanager
def _sentinel(primary: EmbeddedValkey, folder: Path, quorum: int) -> Generator[int]:
    port = free_port()
    folder.mkdir(parents=True)
    (folder / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {quorum}\n"
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
        f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT}\n"
    )
    command = leashed([server_binary(), str(folder / "sentinel.conf"), "--sentinel"], signal.SIGKILL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def knows_its_replica(port: int) -> bool:
    """Tells whether the Sentinel could fail over now."""
    return await _knows(port, "num-slaves", 1)


async def knows_the_others(port: int, count: int) -> bool:
    """Tells whether the Sentinel has found so many others."""
    return await _knows(port, "num-other-sentinels", count)


async def primary_by(port: int) -> int | None:
    """Returns the port of the server that a Sentinel takes for the primary; None while it does not answer."""
    found = await ask(f"redis://127.0.0.1:{port}", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
    return int(cast(list[str], found)[1]) if found else None


async def _knows(port: int, what: str, least: int) -> bool:
    told = cast(list[str], await ask(f"redis://127.0.0.1:{port}", "SENTINEL", "MASTER", SERVICE) or [])
    fields = dict(zip(told[::2], told[1::2], strict=True))
    return int(fields.get(what, 0)) >= least


async def ask(url: str, *command: str) -> object | None:
    """Returns a server's answer to a command; None if it does not give one."""
    try:
        async with redis_errors(), open_client(url) as client:
            return cast(object, await client.execute_command(*command))
    except Unavailable:
        return None
