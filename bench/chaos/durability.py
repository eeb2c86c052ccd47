# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false
"""Measures what a power cut of Redis' machine would lose: for how long an answered write is not on the disk yet.

Run it with `python -m bench.chaos.durability [seconds]`; it needs `strace`, which sees when the log is flushed.

An embedded Valkey is kept busy as by streams: writes of a chunk's size, one after the other. Beside them single writes
are made at random moments. Told for each `appendfsync`: what such a write costs, and how long after its answer the next
flush that began after it has ended. (WAITAOF does not tell: with `everysec` it may answer before the flush, as soon as
the server's buffer is empty.)
"""

import asyncio
import random
import re
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, time
from typing import NamedTuple

from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.process import loop
from millstream.common.process.tasks import TaskGroup

CHUNK = b'{"ids":[1234567],"text":" word"}'
WRITERS, PAUSE = 8, 0.005  # streams, and seconds between two chunks of one
LOOK_EVERY = 0.1  # seconds on average between two writes that are looked after
LONGEST = 3.0  # seconds after the last write in which its flush must have come
FLUSH = re.compile(r"(\d+\.\d+) (?:fdatasync|fsync)\(.*<(\d+\.\d+)>$", re.MULTILINE)


class Moments(NamedTuple):
    """When something began and ended, in seconds since the epoch."""

    began: float
    ended: float


@asynccontextmanager
async def traced(pid: int, output: Path) -> AsyncGenerator[None]:
    """The flushes of a process are written down."""
    calls = "trace=fdatasync,fsync"
    tracer = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-ttt", "-T", "-e", calls, "-p", str(pid), "-o", str(output)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracer.stderr is not None
    await tracer.stderr.readline()  # it is attached
    try:
        yield
    finally:
        tracer.terminate()
        await tracer.communicate()


def flushes(output: Path) -> list[Moments]:
    """Returns the flushes that were written down, in order."""
    found = [(float(began), float(took)) for began, took in FLUSH.findall(output.read_text())]
    return sorted(Moments(began, began + took) for began, took in found)


async def write_on(broker: Broker, name: str, until: float) -> None:
    """One stream's writes."""
    while monotonic() < until:
        async with redis_errors():
            await broker.redis.xadd(name, {"c": CHUNK}, maxlen=1000)
        await asyncio.sleep(PAUSE)


async def write_now_and_then(broker: Broker, until: float) -> list[Moments]:
    """Returns when each write began and was answered."""
    writes: list[Moments] = []
    while monotonic() < until:
        await asyncio.sleep(random.expovariate(1 / LOOK_EVERY))
        began = time()
        async with redis_errors():
            await broker.redis.set("looked", began)
        writes.append(Moments(began, time()))
    return writes


def exposed(write: Moments, flushed: list[Moments]) -> float:
    """Returns for how many seconds after its answer a write was not on the disk: 0 if a flush lay between."""
    if any(write.began <= flush.began and flush.ended <= write.ended for flush in flushed):
        return 0.0
    return next(flush.ended for flush in flushed if flush.began >= write.ended) - write.ended


def row(setting: str, writes: list[Moments], flushed: list[Moments]) -> str:
    """Returns a row of the table, in milliseconds."""
    figures: list[str] = []
    for each in ([one.ended - one.began for one in writes], [exposed(one, flushed) for one in writes]):
        ordered = sorted(1000 * seconds for seconds in each)
        figures += [f"{ordered[int(part * (len(ordered) - 1))]:.1f}" for part in (0.5, 0.95, 1)]
    return f"| {setting} | {len(writes)} | {' | '.join(figures)} |"


async def busy(broker: Broker, seconds: float) -> list[Moments]:
    """Writes for so long, and a little longer, so that the last looked after is flushed."""
    until = monotonic() + seconds
    async with TaskGroup() as tasks:
        looking = tasks.create_task(write_now_and_then(broker, until))
        for number in range(WRITERS):
            tasks.create_task(write_on(broker, f"stream-{number}", until + LONGEST))
    return looking.result()


async def prepared(broker: Broker, setting: str) -> int:
    """Sets how the server flushes its log, and returns its process."""
    async with redis_errors():
        await broker.redis.config_set("appendfsync", setting)
        return int((await broker.redis.info("server"))["process_id"])


async def measure(seconds: float) -> None:
    """Prints a table."""
    print("| appendfsync | writes | answered p50 ms | p95 | max | exposed p50 ms | p95 | max |")
    print("|---|---|---|---|---|---|---|---|")
    for setting in ("everysec", "always"):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "flushes"
            async with EmbeddedValkey(Path(folder) / "valkey") as valkey, Broker(valkey.url) as broker:
                pid = await prepared(broker, setting)
                async with traced(pid, output):
                    writes = await busy(broker, seconds)
            print(row(setting, writes, flushes(output)), flush=True)


if __name__ == "__main__":
    loop.run(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0))
