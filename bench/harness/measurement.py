"""One measurement of one server: a load and what its processes paid for it."""

import asyncio
from dataclasses import dataclass
from statistics import median

from millstream.bench.command.load import Load
from millstream.bench.command.processes import Cost, Processes, spent
from millstream.bench.command.settings import BenchSettings
from millstream.bench.command.statistics import Figures, summed
from millstream.bench.harness.cluster import MODEL, Running


@dataclass(frozen=True, slots=True)
class Trial:
    """`cpu`: microseconds per token, by process; `memory`: bytes at the end."""

    figures: Figures
    cpu: dict[str, float]
    memory: dict[str, int]

    @property
    def total(self) -> float:
        """Returns the cost of all processes together, microseconds per token."""
        return sum(self.cpu.values())


def streams(count: int, tokens: int, rounds: int = 1) -> BenchSettings:
    """Returns the settings of so many streams at any time, each of so many tokens."""
    return BenchSettings(
        concurrency=count, requests=count * rounds, output_tokens=tokens, input_words=16, duration=600, timeout=120
    )


def arrivals(rate: float, seconds: float, tokens: int) -> BenchSettings:
    """Returns the settings of requests at random moments."""
    many = int(rate * seconds)
    return BenchSettings(rate=rate, requests=many, duration=seconds, output_tokens=tokens, input_words=16, timeout=60)


async def trial(server: Running, settings: BenchSettings) -> Trial:
    """Measures once. A server with several addresses gets an equal part of the load at each."""
    processes = Processes(server.pids)
    urls = server.all_urls or [server.url]
    shares = [_share(settings, url, index, len(urls)) for index, url in enumerate(urls)]
    before = processes.read()
    runs = await asyncio.gather(*(Load(share, MODEL).run() for share in shares))
    after = processes.read()
    figures = summed([answer for answers in runs for answer in answers])
    return Trial(
        figures, _per_token(before, after, figures.tokens), {name: cost.memory for name, cost in after.items()}
    )


def _share(settings: BenchSettings, url: str, index: int, parts: int) -> BenchSettings:
    return settings.model_copy(
        update={
            "base_url": url,
            "model": MODEL,
            "rate": settings.rate / parts,
            "concurrency": max(1, settings.concurrency // parts),
            "requests": max(1, settings.requests // parts),
            "seed": settings.seed + index,
        }
    )


def _per_token(before: dict[str, Cost], after: dict[str, Cost], tokens: int) -> dict[str, float]:
    return {name: seconds / max(tokens, 1) * 1e6 for name, seconds in spent(before, after).items()}


def median_cpu(trials: list[Trial]) -> dict[str, float]:
    """Returns the median CPU by process."""
    return {name: round(median(each.cpu[name] for each in trials), 1) for name in trials[0].cpu}
