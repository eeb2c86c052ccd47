"""The right to work on a batch, renewed while the work goes on."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from millstream.common.broker.records.batches import Batches, Hold
from millstream.common.errors import Unavailable
from millstream.common.process.tasks import TaskGroup

LEASE = 6.0  # seconds: after so long another process goes on with a batch whose own has died
RENEW_EVERY = 1.0  # seconds; also how soon a cancellation is noticed
log = structlog.stdlib.get_logger(part="batches")


class LeaseLost(Exception):
    """Another process works on the batch now."""


class BatchLease:
    """A batch held by this process."""

    def __init__(self, batches: Batches, batch: str, owner: str, hold: Hold) -> None:
        self._batches = batches
        self._batch = batch
        self._owner = owner
        self._hold = hold
        self._taken = time.monotonic()

    @property
    def grant(self) -> int:
        """Returns the fence on every write."""
        return self._hold.grant

    @property
    def status(self) -> str:
        """Returns the batch's status when the lease was last renewed."""
        return self._hold.status

    @property
    def now(self) -> float:
        """Returns Redis time, in seconds since the epoch."""
        return self._hold.now + time.monotonic() - self._taken

    async def renew(self) -> None:
        """Raises `LeaseLost`, `Unavailable`."""
        hold = await self._batches.hold(self._batch, self._owner, LEASE)
        # One more than ours: it ran out (Redis was away) and nobody else took it meanwhile.
        if hold is None or hold.grant > self._hold.grant + 1:
            raise LeaseLost
        self._hold, self._taken = hold, time.monotonic()

    async def keep(self) -> None:
        """Renews for ever. Raises `LeaseLost`."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self.renew()
            except Unavailable as error:
                log.debug("lease_not_renewed", batch=self._batch, error=error.message)

    async def let_go(self) -> None:
        """Gives the lease up, so that others may go on at once."""
        try:
            await self._batches.hold(self._batch, self._owner, 0)
        except Unavailable:
            pass  # it runs out by itself


@asynccontextmanager
async def leased(batches: Batches, batch: str, owner: str) -> AsyncGenerator[BatchLease | None]:
    """Yields the lease, renewed until the block ends; None if another process has it. The block is cancelled, and
    `LeaseLost` raised, when it is lost. Raises `Unavailable`."""
    hold = await batches.hold(batch, owner, LEASE)
    if hold is None:
        yield None
        return
    lease = BatchLease(batches, batch, owner, hold)
    try:
        async with TaskGroup() as tasks:
            keeping = tasks.keep(lease.keep, "lease")
            yield lease
            keeping.cancel()
    finally:
        await asyncio.shield(lease.let_go())
