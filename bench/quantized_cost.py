"""Measures what quantised weights cost and save: speed, memory, and how well the model still foretells a text.

    python -m bench.quantized_cost                       # float32, int8 and int4, each in a process of its own

The text is the beginning of docs/architecture.md. Its perplexity is computed by the engine
that is measured, 512 tokens at a time.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch publishes partly unknown types)

import argparse
import asyncio
import json
import math
import time
from pathlib import Path
from typing import cast

import psutil

from millstream.bench.harness.own_process import result_of
from millstream.common.job import Sampling
from millstream.worker.engines.base import Output, SequenceKey, SequenceSpec, Sink
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource, Quantization

TEXT = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
PIECE = 512  # tokens that are scored together
PIECES = 4
WAYS = ("float32", "int8", "int4")
LEVELS = {"one": 1, "eight": 8}  # requests at once


async def rate(
    engine: TransformersEngine, told: asyncio.Queue[Output], args: argparse.Namespace, at_once: int
) -> tuple[float, float]:
    """Returns the most tokens a second of several rounds with so many requests at once, and the least milliseconds of
    processor time a token."""
    rates: list[float] = []
    costs: list[float] = []
    for repeat in range(args.repeats):
        start, spent = time.perf_counter(), time.process_time()
        for number in range(at_once):
            prompt = [(number * 31 + repeat * 7 + at * 13) % 40000 for at in range(24)]
            key = SequenceKey(f"{at_once}-{repeat}-{number}#1")
            engine.add(SequenceSpec(key, prompt, Sampling(temperature=0.0, ignore_eos=True), args.tokens))
        ended = 0
        while ended < at_once:
            output = await told.get()
            if output.error:
                raise output.error
            ended += output.finish is not None
        rates.append(at_once * args.tokens / (time.perf_counter() - start))
        costs.append(1e3 * (time.process_time() - spent) / (at_once * args.tokens))
    return max(rates), min(costs)


async def perplexity(engine: TransformersEngine, told: asyncio.Queue[Output]) -> float:
    """Returns the perplexity of the text, by the log-probabilities that the engine tells of prompts."""
    ids = engine.tokenizer.encode(TEXT.read_text(encoding="utf-8"))
    sums, count = 0.0, 0
    for piece in range(PIECES):
        part = ids[piece * PIECE : (piece + 1) * PIECE]
        key = SequenceKey(f"text-{piece}#1")
        engine.add(SequenceSpec(key, part, Sampling(temperature=0.0, ignore_eos=True), 1, prompt_logprobs=0))
        output = await told.get()
        if output.error:
            raise output.error
        scored = [each.logprob for each in output.prompt_logprobs or () if each.logprob is not None]
        sums, count = sums + sum(scored), count + len(scored)
    return math.exp(-sums / count)


def _telling(told: asyncio.Queue[Output]) -> Sink:
    def sink(outputs: list[Output]) -> None:
        for output in outputs:
            told.put_nowait(output)

    return sink


async def measure(args: argparse.Namespace) -> dict[str, float]:
    quantization = None if args.way == "float32" else cast(Quantization, args.way)
    source = ModelSource(args.model)
    engine = TransformersEngine(
        EngineSettings(
            source=source, dtype="float32", slots=8, max_model_len=1024, kv_tokens=8192, quantization=quantization
        )
    )
    await asyncio.to_thread(engine.load)
    told: asyncio.Queue[Output] = asyncio.Queue()
    engine.start(_telling(told))
    found: dict[str, float] = {}
    for name, at_once in LEVELS.items():
        found[name], found[f"{name}-cpu"] = await rate(engine, told, args, at_once)
    found["mib"] = psutil.Process().memory_info().rss / 2**20
    found["perplexity"] = await perplexity(engine, told)
    await asyncio.to_thread(engine.close)
    return found


def table(args: argparse.Namespace) -> None:
    print(f"{args.model}, {args.tokens} tokens a request; perplexity of {PIECE * PIECES} tokens of {TEXT.name}\n")
    print("| weights | tokens/s alone (CPU) | tokens/s of 8 at once (CPU) | memory of the process | perplexity |")
    print("|---|---|---|---|---|")
    for way in args.ways:
        flags = [f"--{name}={getattr(args, name)}" for name in ("model", "tokens", "repeats")]
        found = result_of("millstream.bench.quantized_cost", [*flags, "--way", way], way)
        cells = (
            *(f"{found[name]:.1f} ({found[f'{name}-cpu']:.1f} ms)" for name in LEVELS),
            f"{found['mib']:.0f} MiB",
            f"{found['perplexity']:.2f}",
        )
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="the sample, or a folder")
    parser.add_argument("--tokens", type=int, default=32, help="completion tokens of each request")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="what to measure")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is None:
        table(args)
    else:
        print(json.dumps(asyncio.run(measure(args))))


if __name__ == "__main__":
    main()
