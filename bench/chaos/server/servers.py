"""The Redis of a chaos site: one server, or a primary with its replica and three Sentinels."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from millstream.bench.chaos.server.sentinel import (
    SERVICE,
    ask,
    knows_its_replica,
    knows_the_others,
    primary_by,
    sentinels_of,
)
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.errors import Unavailable

SENTINELS = 3
AT_ONCE = ["--repl-diskless-sync-delay", "0"]  # a replica that comes back waits for no other
PATIENCE = 60.0  # seconds that Sentinels and replicas may take on a busy machine
LOOK_EVERY = 0.05  # seconds


@dataclass
class Servers:
    """`primary` is the server that is struck; `replica` is there with Sentinels only. `url` is for everybody."""

    directory: Path
    with_sentinels: bool
    primary: EmbeddedValkey = field(init=False)
    replica: EmbeddedValkey | None = None
    url: str = ""
    _sentinels: list[int] = field(default_factory=list[int])
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self.primary = await self._start(self.data)
        self.url = self.primary.url
        if self.with_sentinels:
            await self._add_sentinels()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self, data: Path) -> EmbeddedValkey:
        return await self._stack.enter_async_context(EmbeddedValkey(data, options=AT_ONCE))

    @property
    def data(self) -> Path:
        """Returns the directory of the one server."""
        return self.directory / "valkey"

    async def _add_sentinels(self) -> None:
        self.replica = await self._start(self.directory / "replica")
        await until(self._replicates)
        self._sentinels = self._stack.enter_context(sentinels_of(self.primary, self.directory, SENTINELS))
        for port in self._sentinels:
            await until(lambda at=port: knows_its_replica(at))
            await until(lambda at=port: knows_the_others(at, SENTINELS - 1))
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"

    async def fail_over(self, window: float) -> None:
        """Cuts the replica off, kills the primary `window` seconds later, and waits until the replica has taken over
        and has a replica itself. What was written in the window is lost."""
        assert self.replica is not None
        os.kill(self.replica.pid, signal.SIGSTOP)
        try:
            await ask(self.primary.url, "CLIENT", "KILL", "TYPE", "replica")
            await asyncio.sleep(window)
            await self.primary.kill()
        finally:
            os.kill(self.replica.pid, signal.SIGCONT)
        await until(self._has_moved)
        await self.primary.restart()
        await self.settle()

    async def freeze(self, seconds: float) -> None:
        """Stops the primary in mid-sentence for so long; with Sentinels until the replica has taken over, and then it
        goes on without knowing."""
        frozen = self.primary
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
            if self.replica is not None:
                await until(self._has_moved)
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        await self.settle()

    async def settle(self) -> None:
        """Waits until the server that the Sentinels name is the primary, and the other one its replica."""
        if self.replica is not None:
            await until(self._is_settled)

    async def _is_settled(self) -> bool:
        assert self.replica is not None
        named = {await primary_by(port) for port in self._sentinels}
        if named == {self.replica.port}:
            self.primary, self.replica = self.replica, self.primary
        elif named != {self.primary.port}:
            return False
        return await self._replicates()

    async def _has_moved(self) -> bool:
        assert self.replica is not None
        return {await primary_by(port) for port in self._sentinels} == {self.replica.port}

    async def _replicates(self) -> bool:
        """Tells the other server whose replica it is, which a Sentinel does too, but eight seconds after it came back;
        and returns whether it has all the primary has."""
        assert self.replica is not None
        await ask(self.replica.url, "REPLICAOF", "127.0.0.1", str(self.primary.port))
        told = cast(dict[str, Any] | None, await ask(self.replica.url, "INFO", "replication"))
        return told is not None and told.get("master_link_status") == "up"


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a fact. Raises `Unavailable` when it does not come."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                if await is_so():
                    return
                await asyncio.sleep(LOOK_EVERY)
    except TimeoutError:
        raise Unavailable("The Sentinels did not come to an agreement.") from None
