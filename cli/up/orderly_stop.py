"""Stopping the parts of `up` in their order, while the screen says what is waited for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.cli.up.eviction import workers_of_process
from millstream.cli.up.screen import Screen
from millstream.common.broker.connection.broker import Broker
from millstream.common.errors import Unavailable
from millstream.common.process.supervise import Child

LOOK_INTERVAL = 0.25  # seconds between two looks at the answers that still run


@dataclass(frozen=True, slots=True)
class OrderlyStop:
    """The stop of a cluster. `patience`: seconds until a part that does not stop is killed."""

    screen: Screen
    broker: Broker
    patience: float

    async def stop(self, first: Sequence[Child], workers: Sequence[Child]) -> None:
        """Stops those that bring work, then the workers."""
        telling = asyncio.create_task(self._tell([*first, *workers][0], workers))
        try:
            await asyncio.gather(*(self._stop(child) for child in first))
            await asyncio.gather(*(self._stop(worker) for worker in workers))
        finally:
            telling.cancel()

    async def _stop(self, child: Child) -> None:
        self.screen.stopping(child.program.name, "stopping")
        await child.stop(self.patience)
        self.screen.stopped(child.program.name)

    async def _tell(self, gateway: Child, workers: Sequence[Child]) -> None:
        while True:
            running = [(worker, await self._answers(worker)) for worker in workers]
            for worker, answers in running:
                if answers and worker.pid is not None:
                    self.screen.stopping(worker.program.name, f"{_count(answers)} still running")
            if gateway.pid is not None and (total := sum(answers for _, answers in running)):
                self.screen.stopping(gateway.program.name, f"waits for {_count(total)}")
            await asyncio.sleep(LOOK_INTERVAL)

    async def _answers(self, worker: Child) -> int:
        try:
            found = await workers_of_process(self.broker, worker.pid) if worker.pid else []
        except Unavailable:
            return 0  # nobody can say; the parts still stop in time
        return sum(each.load for each in found)


def _count(answers: int) -> str:
    return f"{answers} answer" if answers == 1 else f"{answers} answers"
