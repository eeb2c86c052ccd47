"""A worker that tells nobody: engine, text and chunks as always, but no outbox, no Redis. What such a worker costs less
than one in a cluster is what its outbox costs. Run as
`python -m bench.lab.queue.worker_without_outbox --streams 64 --tokens 200`; it prints CPU microseconds per token."""

import argparse
import asyncio
import sys
import time

from millstream.bench.harness.cluster import MODEL, ROOT
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.workers import Claimed
from millstream.common.chunk import NOTHING_YET
from millstream.common.job import ChatPrompt, JobId, JobRequest, Lease, ModelName, Sampling, WorkerId
from millstream.common.process import loop
from millstream.common.telemetry import configure
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.jobs.drivers.choice import driver_of
from millstream.worker.jobs.outbox import Outbox
from millstream.worker.jobs.runner import Runner
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs

NOWHERE = "redis://127.0.0.1:1"  # never connected to: only the continuation of a job reads its log
PROMPT = ChatPrompt([{"role": "user", "content": "hello " * 16}])


class WorkerWithoutOutbox(Outbox):
    """Forgets what the jobs made, at the moments at which it would be sent."""

    async def run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            for job in self._running_jobs:
                job.drafts.clear()
                if job.end is not None:
                    self._running_jobs.remove(job)


async def spend(streams: int, tokens: int, rate: float) -> float:
    """Returns the CPU seconds of so many streams of so many tokens, from their claim to their end."""
    engine = SimulatedEngine(SimulatedSettings(MODEL, slots=streams, rate=rate))
    running_jobs, broker = RunningJobs(), Broker(NOWHERE)
    outbox = WorkerWithoutOutbox(
        broker, ModelName(MODEL), WorkerId("without_outbox"), running_jobs, lambda job, answer: None
    )
    driver = driver_of(engine, engine.load(), broker, running_jobs)
    runner = Runner(broker, WorkerId("without_outbox"), running_jobs, outbox, driver)
    runner.driver.start()
    loops = [asyncio.create_task(outbox.run()), asyncio.create_task(runner.run())]
    request = JobRequest(PROMPT, Sampling(max_tokens=tokens))
    began = time.process_time()
    for number in range(streams):
        claimed = Claimed(
            JobId(f"job-{number}"), ModelName(MODEL), Lease("1:without_outbox"), NOTHING_YET, 0, 0, request
        )
        running_jobs.add(job := RunningJob(claimed))
        runner.begin(job)
    while len(running_jobs):
        running_jobs.gone.clear()
        await running_jobs.gone.wait()
    spent = time.process_time() - began
    for each in loops:
        each.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    return spent


async def cost_without_outbox(streams: int, tokens: int) -> float:
    """Returns the CPU microseconds per token of a worker without an outbox, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "millstream.bench.lab.queue.worker_without_outbox",
        "--streams",
        str(streams),
        "--tokens",
        str(tokens),
    ]
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    told, _ = await child.communicate()
    return float(told)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="A simulated worker without its outbox.")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--rate", type=float, default=50.0)
    given = parser.parse_args()
    configure("json", "error")
    spent = loop.run(spend(given.streams, given.tokens, given.rate))
    sys.stdout.write(f"{spent / given.streams / given.tokens * 1e6:.2f}\n")


if __name__ == "__main__":
    main()
