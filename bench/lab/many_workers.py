"""Many simulated workers in one process, each with its own id, lease, inbox and step calls: to see what many workers do
to Redis without the memory of many processes. Run as `python -m bench.lab.many_workers --redis-url URL --count 16`."""

import argparse
import asyncio
import signal

from millstream.common.broker.connection.opening import open_broker
from millstream.common.job import WorkerId
from millstream.common.process import loop
from millstream.common.process.identity import incarnation
from millstream.common.process.tasks import TaskGroup
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.service.service import ModelService
from millstream.worker.settings import WorkerSettings


async def serve(settings: WorkerSettings, count: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_broker(settings) as broker, TaskGroup() as services:
        for _ in range(count):
            engine = SimulatedEngine(_simulated(settings))
            service = ModelService(broker, WorkerId(incarnation("worker")), engine, engine.load(), settings)
            services.create_task(service.run(stop), name="worker")


def _simulated(settings: WorkerSettings) -> SimulatedSettings:
    return SimulatedSettings(
        slots=settings.slots or 8, rate=settings.simulated_rate, step_tokens=settings.simulated_step_tokens
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Several simulated workers in one process.")
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--step-tokens", type=int, default=1)
    given = parser.parse_args()
    settings = WorkerSettings(
        engine="simulated",
        redis_url=given.redis_url,
        slots=given.slots,
        drain=0,
        simulated_rate=given.rate,
        simulated_step_tokens=given.step_tokens,
    )
    loop.run(serve(settings, given.count))


if __name__ == "__main__":
    main()
