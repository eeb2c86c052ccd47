"""Measures vLLM alone, with its own server, and with gateway, Valkey and worker before it, with the same flags.

    python -m bench.vllm_cost --engine-args enforce-eager --dtype float32              # CPUs: deploy/vllm-cpu.sh
    python -m bench.vllm_cost --model /models/llama-8b --levels 1,32,128 --tokens 256  # a GPU

They run one after the other, so that each has the GPU to itself; with `--together`, on a machine with other work and
room for two models, each round asks both. Medians are printed. `engine` is the worker's engine without HTTP and queue,
`serve` is `vllm serve`, `ours` the whole path; all greedy.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table

from millstream.bench.harness.cluster import MODEL, ClusterShape, Running, cluster, process, until_it_answers
from millstream.bench.harness.measurement import streams, trial
from millstream.common.broker.embedded import free_port
from millstream.common.job import Sampling
from millstream.common.process import loop
from millstream.common.process.folders import default_cache_dir
from millstream.worker.engines.base import Output, SequenceKey, SequenceSpec, silent
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT, sample_chat_folder
from millstream.worker.engines.vllm.arguments import flags
from millstream.worker.engines.vllm.engine import VllmEngine
from millstream.worker.engines.vllm.settings import VllmSettings

PATIENCE = 900.0  # seconds until a model must be loaded
PROMPT = "Rain fills the stream, the stream turns the wheel, and the wheel turns the stone that grinds the corn."
SpeedByLevel = dict[int, float]  # tokens/s by requests at once


def settings_of(options: argparse.Namespace) -> VllmSettings:
    """Returns the flags that all three share."""
    return VllmSettings(
        model=options.model,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        slots=max(options.levels),
        engine_args=tuple(options.engine_args),
    )


@asynccontextmanager
async def serve(options: argparse.Namespace) -> AsyncGenerator[Running]:
    """Starts vLLM's own server."""
    path = str(sample_chat_folder(default_cache_dir(), silent)) if options.model == SAMPLE_CHAT else options.model
    words = [word for word in flags(settings_of(options), path) if not word.startswith("--model=")]
    port = free_port()
    place = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", MODEL]
    own = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", path, *words, *place]
    async with process(own) as child:
        await until_it_answers(f"http://127.0.0.1:{port}/health", child, PATIENCE)
        yield Running(f"http://127.0.0.1:{port}/v1", {"serve": [child.pid]})


@asynccontextmanager
async def ours(options: argparse.Namespace) -> AsyncGenerator[Running]:
    """Starts gateway, Valkey and a worker with vLLM."""
    arguments = [word for each in options.engine_args for word in ("--engine-args", each)]
    own = ["--engine", "vllm", "--model", options.model, "--dtype", options.dtype, *arguments]
    own += ["--max-model-len", str(options.max_model_len)]
    async with cluster(ClusterShape(slots=max(options.levels), engine=own, patience=PATIENCE)) as running:
        yield running


SERVERS = {"serve": serve, "ours": ours}


async def compare(servers: dict[str, Running], options: argparse.Namespace) -> dict[str, SpeedByLevel]:
    """Returns the medians of rounds in which each server is asked in turn, after one that nobody counts."""
    for server in servers.values():
        await trial(server, streams(max(options.levels), 8))
    found: dict[str, SpeedByLevel] = {name: {} for name in servers}
    for level in options.levels:
        load = streams(level, options.tokens, options.waves)
        rounds = [
            [(await trial(server, load)).figures.tokens_per_second for server in servers.values()]
            for _ in range(options.rounds)
        ]
        for name, speeds in zip(servers, zip(*rounds, strict=True), strict=True):
            found[name][level] = median(speeds)
    return found


async def engine(options: argparse.Namespace) -> SpeedByLevel:
    """Measures the engine by itself, in this process."""
    made = VllmEngine(settings_of(options))
    await asyncio.to_thread(made.load)
    ended: asyncio.Queue[SequenceKey] = asyncio.Queue()

    def sink(outputs: list[Output]) -> None:
        for output in outputs:
            if output.finish or output.error:
                ended.put_nowait(output.key)

    made.start(sink)
    prompt = made.tokenizer.encode(PROMPT)

    async def run(level: int, tokens: int, number: int) -> float:
        began = perf_counter()
        for place in range(level):
            sampling = Sampling(temperature=0, ignore_eos=True)
            made.add(SequenceSpec(SequenceKey(f"{number}-{place}#1"), [*prompt, place], sampling, tokens))
        for _ in range(level):
            await ended.get()
        return level * tokens / (perf_counter() - began)

    try:
        await run(max(options.levels), 8, 0)
        rounds = range(1, options.rounds + 1)
        return {level: median([await run(level, options.tokens, n) for n in rounds]) for level in options.levels}
    finally:
        await asyncio.to_thread(made.close)


async def measure(options: argparse.Namespace) -> AsyncGenerator[dict[str, SpeedByLevel]]:
    """Yields what was found, part by part."""
    if options.together:
        async with AsyncExitStack() as stack:
            yield await compare(
                {name: await stack.enter_async_context(start(options)) for name, start in SERVERS.items()}, options
            )
        return
    yield {"engine": await engine(options)}
    for name, start in SERVERS.items():
        async with start(options) as server:
            yield await compare({name: server}, options)


async def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    console = Console(width=120)
    found: dict[str, SpeedByLevel] = {}
    async for part in measure(options):
        found |= part
        console.print(str(part))
    table = Table("requests at once", *(f"{name}, tokens/s" for name in found), "ours / serve")
    for level in options.levels:
        ratio = f"{found['ours'][level] / found['serve'][level]:.3f}"
        table.add_row(str(level), *(f"{each[level]:.1f}" for each in found.values()), ratio)
    console.print(f"{Path(options.model).name}, {options.tokens} tokens, greedy", table)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SAMPLE_CHAT)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--engine-args", action="append", default=[], help="vLLM's own flags as `key=value`")
    parser.add_argument("--levels", type=lambda text: [int(word) for word in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--waves", type=int, default=1, help="requests of each place, one after the other")
    parser.add_argument("--together", action="store_true", help="load both servers, and ask them in turn")
    loop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
