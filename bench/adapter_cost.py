"""Measures what adapters cost beside one model, against a whole copy of the model for each.

    python -m bench.adapter_cost                         # 0, 1, 4 and 16 adapters of rank 16, 16 requests at once
    python -m bench.adapter_cost --counts 1,16 --rank 64

Each row comes from a process of its own. The adapters hold random numbers and change all linear layers of each block. A
merged copy has the base's size and does its arithmetic, so that the base itself stands for it. All copies together
have as much cache as the one model has.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (safetensors publishes partly unknown types)

import argparse
import asyncio
import json
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from safetensors import safe_open
from safetensors.numpy import save_file

from millstream.bench.harness.own_process import result_of
from millstream.common.job import Sampling
from millstream.worker.engines.base import GuideLimits, Output, SequenceKey, SequenceSpec
from millstream.worker.engines.model_files.adapters.engine import AdapterEngine
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.loading.load import locate
from millstream.worker.engines.transformers.lora.beside import SharedTransformers
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LENGTH = 512  # tokens, prompt and completion
AnyEngine = TransformersEngine | AdapterEngine


def make_adapter(folder: Path, model: str, seed: int, rank: int) -> str:
    """Writes an adapter for the model in the folder `model` and returns its folder."""
    drawn = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    for file in Path(model).glob("*.safetensors"):
        with safe_open(file, framework="np") as opened:
            for key in opened.keys():  # noqa: SIM118 (no mapping)
                name = key.removesuffix(".weight")
                if key.endswith(".weight") and name.endswith(TARGETS):
                    written, read = opened.get_slice(key).get_shape()
                    for half, shape in (("A", (rank, read)), ("B", (written, rank))):
                        weights[f"{name}.lora_{half}.weight"] = drawn.normal(0, 0.01, shape).astype(np.float32)
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank}))
    return str(folder)


def engines(args: argparse.Namespace, folder: Path) -> list[AnyEngine]:
    """Returns the engines of one row, not loaded yet: one for each name."""
    count: int = args.count
    source = ModelSource(args.model)
    whole = EngineSettings(source=source, slots=args.requests, max_model_len=LENGTH, kv_tokens=LENGTH * args.requests)
    if args.way == "copies":
        share = max(LENGTH, LENGTH * args.requests // count)
        slots = max(1, args.requests // count)
        parts = EngineSettings(source=source, slots=slots, max_model_len=LENGTH, kv_tokens=share)
        return [TransformersEngine(parts) for _ in range(count)]
    if count == 0:
        return [TransformersEngine(whole)]
    place = locate(source, lambda stage, fraction: None).path
    settings = EngineSettings(
        source=source, slots=args.requests, max_model_len=LENGTH, kv_tokens=whole.kv_tokens, adapters=True
    )
    shared = SharedTransformers(partial(TransformersEngine, settings))
    paths = [make_adapter(folder / str(seed), place, seed, args.rank) for seed in range(count)]
    return [AdapterEngine(shared, GuideLimits(), str(at), path) for at, path in enumerate(paths)]


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    chosen = engines(args, folder)
    ended: asyncio.Queue[SequenceKey] = asyncio.Queue()

    def sink(outputs: list[Output]) -> None:
        for output in outputs:
            if output.finish or output.error:
                ended.put_nowait(output.key)

    for engine in chosen:
        await asyncio.to_thread(engine.load)
        engine.start(sink)
    rates: list[float] = []
    for repeat in range(args.repeats):
        start = time.perf_counter()
        for number in range(args.requests):
            prompt = [(number * 31 + repeat * 7 + at * 13) % 40000 for at in range(24)]
            key = SequenceKey(f"{repeat}-{number}#1")
            engine = chosen[number % len(chosen)]
            engine.add(SequenceSpec(key, prompt, Sampling(temperature=0.0, ignore_eos=True), args.tokens))
        for _ in range(args.requests):
            await ended.get()
        rates.append(args.requests * args.tokens / (time.perf_counter() - start))
    resident = psutil.Process().memory_info().rss / 2**20
    for engine in chosen:
        await asyncio.to_thread(engine.close)
    return {"mib": resident, "rate": max(rates)}


def row(args: argparse.Namespace, way: str, count: int) -> dict[str, float]:
    passed = [f"--{name}={getattr(args, name)}" for name in ("model", "rank", "requests", "tokens", "repeats")]
    flags = [*passed, "--way", way, "--count", str(count)]
    return result_of("millstream.bench.adapter_cost", flags, f"{way} of {count}")


def table(args: argparse.Namespace) -> None:
    print(f"{args.model}, rank {args.rank}, {args.requests} requests at once, {args.tokens} tokens each\n")
    print("| adapters | beside one model: memory | tokens/s | merged copies: memory | tokens/s |")
    print(f"|{'---|' * 5}")
    for count in (int(each) for each in args.counts.split(",")):
        ways = ("adapters", "copies") if count else ("adapters",)
        found = [row(args, way, count) for way in ways]
        cells = [cell for each in found for cell in (f"{each['mib']:.0f} MiB", f"{each['rate']:.0f}")]
        print(f"| {count} | {' | '.join([*cells, '', ''][:4])} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="the sample, or a folder with safetensors")
    parser.add_argument("--counts", default="0,1,4,16", help="adapters of each row")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--requests", type=int, default=16, help="requests at once, spread over the names")
    parser.add_argument("--tokens", type=int, default=48, help="completion tokens of each request")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=["adapters", "copies"], help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is None:
        table(args)
        return
    with TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(args, Path(folder)))))


if __name__ == "__main__":
    main()
