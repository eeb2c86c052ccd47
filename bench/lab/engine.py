"""Measures how much of the library's speed the engine keeps: the bare batching of transformers (a) against our engine
without Redis (b) and the whole path over HTTP (c).

    python -m bench.lab.engine                      # the table: 1, 8 and 32 requests at once
    python -m bench.lab.engine --clock cpu          # per second of one processor core: for machines that others use too
    python -m bench.lab.engine --gaps               # running streams while a long prompt is read, in pieces and whole
    bench/lab/gpu.sh                                # on a GPU: random weights in the shape of Llama 3.1 8B

Each column comes from a process of its own, one after the other, on the same prompts; the best of `--repeats` runs.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

from millstream.bench.harness.own_process import result_of
from millstream.bench.lab.engine_http import measure_http
from millstream.common.job import Sampling
from millstream.worker.engines.base import Output, SequenceKey, SequenceSpec
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource

MODES = ("manager", "engine", "http", "sampled", "warm")
TITLES = {
    "manager": "bare manager (a)",
    "engine": "our engine (b)",
    "http": "the whole path over HTTP (c)",
    "sampled": "our engine, temperature 0.8, top-p 0.95",
    "warm": "our engine, temperature 1",
}

HEAT = {"sampled": {"temperature": 0.8, "top_p": 0.95}, "warm": {"temperature": 1.0}}


def settings(args: argparse.Namespace, **more: Any) -> EngineSettings:
    source = ModelSource(args.model)
    threads = 1 if args.clock == "cpu" else None
    chosen = EngineSettings(
        source=source,
        device=args.device,
        dtype=args.dtype,
        max_model_len=2048,
        slots=max(32, *levels(args)),
        threads=threads,
    )
    return replace(chosen, **more)


def levels(args: argparse.Namespace) -> list[int]:
    return [int(level) for level in args.levels.split(",")]


def clock(args: argparse.Namespace) -> float:
    """Returns seconds: of the wall, or of this process's threads together (one thread computes then)."""
    return time.process_time() if args.clock == "cpu" else time.perf_counter()


def question(i: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Tell me a story about the number {i} and a mill on a stream."}]


# ------------------------------------------------------------------------------------------------ one measurement
def manager_config(args: argparse.Namespace, device: str) -> Any:
    """Configures the library as it comes, but on CPUs with an explicit cache: its automatic size zero-fills most of the
    memory."""
    from transformers import ContinuousBatchingConfig

    if device == "cpu":
        return ContinuousBatchingConfig(page_size=32, num_blocks=1024, max_batch_tokens=256, allow_block_sharing=False)
    most = max(levels(args))
    return ContinuousBatchingConfig(max_batch_tokens=2048, max_requests_per_batch=most, allow_block_sharing=False)


def measure_manager(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from millstream.worker.engines.transformers.loading.device import pick_device
    from millstream.worker.engines.transformers.loading.load import locate

    if args.clock == "cpu":
        torch.set_num_threads(1)
    path = locate(ModelSource(args.model), lambda stage, fraction: None).path
    device = pick_device(args.device)
    loaded: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, args.dtype))
    model: Any = loaded.to(device).eval()
    words = AutoTokenizer.from_pretrained(path)
    greedy = GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=args.tokens)
    config = manager_config(args, device.type)
    found: dict[str, dict[str, float]] = {}
    with model.continuous_batching_context_manager(
        generation_config=greedy, continuous_batching_config=config
    ) as manager:
        chosen = manager.continuous_batching_config
        graphs = f"graphs {chosen.use_cuda_graph}, double-buffered {chosen.use_async_batching}"
        note("bare manager: attention", model.config._attn_implementation, graphs)
        for level in levels(args):
            asked = [words.apply_chat_template(question(i), **AS_IDS) for i in range(level)]
            found[str(level)] = {"rate": max(manager_round(manager, asked, args) for _ in range(args.repeats))}
            note("bare manager:", level, found[str(level)])
    return found


AS_IDS: dict[str, Any] = {"add_generation_prompt": True, "return_dict": False}


def note(*facts: object) -> None:
    """For whoever waits for the table."""
    print(*facts, file=sys.stderr, flush=True)


def manager_round(manager: Any, prompts: list[list[int]], args: argparse.Namespace) -> float:
    start = clock(args)
    manager.add_requests(inputs=prompts, max_new_tokens=args.tokens)
    done = 0
    while done < len(prompts):
        result = manager.get_result(timeout=1)
        if result is None and not manager.is_running():
            raise SystemExit("The bare manager ended early.")
        done += result is not None and result.is_finished()
    return len(prompts) * args.tokens / (clock(args) - start)


class Streams:
    """Drives our engine and notes when each token came."""

    def __init__(self, engine: TransformersEngine, args: argparse.Namespace) -> None:
        self.engine = engine
        self._args = args
        self._news = asyncio.Event()
        self.times: dict[SequenceKey, list[float]] = {}
        self._ended: asyncio.Queue[SequenceKey] = asyncio.Queue()

    def sink(self, outputs: list[Output]) -> None:
        now = clock(self._args)
        self._news.set()
        for output in outputs:
            self.times[output.key].append(now)
            if output.finish or output.error:
                self._ended.put_nowait(output.key)

    def add(self, name: str, prompt: list[int], tokens: int, **sampling: Any) -> SequenceKey:
        key = SequenceKey(name)
        self.times[key] = [clock(self._args)]
        self.engine.add(SequenceSpec(key, prompt, Sampling(ignore_eos=True, **sampling), tokens))
        return key

    async def ended(self, count: int) -> None:
        for _ in range(count):
            await self._ended.get()

    async def reached(self, key: SequenceKey, tokens: int) -> None:
        while len(self.times[key]) <= tokens:
            self._news.clear()
            await self._news.wait()

    def gaps(self, keys: list[SequenceKey]) -> list[float]:
        """Returns the seconds between tokens."""
        return [b - a for key in keys for a, b in zip(self.times[key][1:], self.times[key][2:], strict=False)]


async def measure_engine(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    engine = TransformersEngine(settings(args, prefix_sharing=not args.no_sharing))
    card = await asyncio.to_thread(engine.load)
    note("our engine: attention", card.details["attention"], args.one)
    streams = Streams(engine, args)
    engine.start(streams.sink)
    found = {str(level): await engine_rounds(streams, args, level) for level in levels(args)}
    await asyncio.to_thread(engine.close)
    return found


async def engine_rounds(streams: Streams, args: argparse.Namespace, level: int) -> dict[str, float]:
    chat = streams.engine.tokenizer.chat
    prompts = [chat(question(i), [], go_on=False, kwargs={}) for i in range(level)]
    heat = HEAT.get(args.one, {"temperature": 0.0})
    rates, firsts = [], []
    for repeat in range(args.repeats):
        start = clock(args)
        keys = [streams.add(f"{level}-{repeat}-{i}", p, args.tokens, seed=i, **heat) for i, p in enumerate(prompts)]
        await streams.ended(len(keys))
        rates.append(len(keys) * args.tokens / (clock(args) - start))
        firsts.append(statistics.median(streams.times[key][1] - start for key in keys))
    note("our engine:", level, [round(rate) for rate in rates])
    return {"rate": max(rates), "first": min(firsts)}


async def measure_gaps(args: argparse.Namespace) -> dict[str, float]:
    """Measures four running streams; two prompts of 1,000 tokens arrive one after the other."""
    engine = TransformersEngine(settings(args, step_tokens=args.step_tokens, prefix_sharing=False))
    await asyncio.to_thread(engine.load)
    streams = Streams(engine, args)
    engine.start(streams.sink)
    keys = [streams.add(f"s{i}", [i + 5] * 20, 90, temperature=0.0) for i in range(4)]
    for i in range(2):
        await streams.reached(keys[0], 20 + 35 * i)
        streams.add(f"long{i}", [(i + j * 7) % 40000 for j in range(1000)], 1, temperature=0.0)
    await streams.ended(6)
    gaps = sorted(streams.gaps(keys))
    waits = [times[1] - times[0] for key, times in streams.times.items() if key.startswith("long")]
    await asyncio.to_thread(engine.close)
    return {
        "p50": gaps[len(gaps) // 2],
        "p99": gaps[int(len(gaps) * 0.99)],
        "most": gaps[-1],
        "first": statistics.median(waits),
    }


async def http_rate(args: argparse.Namespace, level: int) -> dict[str, float]:
    return await measure_http(args, [question(i) for i in range(level)])


# ---------------------------------------------------------------------------------------------------- the tables
def in_a_process(args: argparse.Namespace, *own: str) -> dict[str, Any]:
    common = ["--model", args.model, "--dtype", args.dtype, "--tokens", str(args.tokens), "--clock", args.clock]
    place = ["--device", args.device, "--levels", args.levels, "--repeats", str(args.repeats)]
    return result_of("millstream.bench.lab.engine", [*common, *place, *own], " ".join(own))


def speed_table(args: argparse.Namespace) -> None:
    print(f"{args.model}, {args.dtype}, {args.tokens} tokens each; tokens per second of the {args.clock} clock")
    modes = args.modes.split(",")
    found = {mode: in_a_process(args, "--one", mode) for mode in modes}
    if "manager" not in found:
        print(found)
        return
    print("(in brackets: of the bare manager)\n")
    print(f"| requests at once | {' | '.join(TITLES[m] for m in modes)} | first token (b) |")
    print(f"|{'---|' * (len(modes) + 2)}")
    for level in args.levels.split(","):
        bare = found["manager"][level]["rate"]
        rates = [found[mode][level]["rate"] for mode in modes]
        cells = [f"{bare:.0f}", *(f"{rate:.0f} ({rate / bare:.2f})" for rate in rates[1:])]
        print(f"| {level} | {' | '.join(cells)} | {found['engine'][level]['first'] * 1000:.0f} ms |", flush=True)


def gaps_table(args: argparse.Namespace) -> None:
    print("| prompt read in pieces of | gap p50 | gap p99 | longest gap | first token of the long prompt |")
    print("|---|---|---|---|---|")
    for pieces in (2048, 256, 128, 64):
        found = in_a_process(args, "--one", "gaps", "--step-tokens", str(pieces))
        cells = [f"{found[name] * 1000:.0f} ms" for name in ("p50", "p99", "most", "first")]
        print(f"| {pieces} tokens | {' | '.join(cells)} |", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--levels", default="1,8,32", help="requests at once")
    parser.add_argument("--tokens", type=int, default=64, help="completion tokens of each request")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--gaps", action="store_true", help="measure running streams beside long prompts instead")
    parser.add_argument("--one", choices=[*MODES, "gaps"], help=argparse.SUPPRESS)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument(
        "--modes", default="manager,engine,http,sampled", help="which columns; without manager no table"
    )
    parser.add_argument("--step-tokens", type=int, default=256, help=argparse.SUPPRESS)
    parser.add_argument("--no-sharing", action="store_true", help="turn prefix sharing off in our engine")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    match args.one:
        case None:
            (gaps_table if args.gaps else speed_table)(args)
        case "manager":
            print(json.dumps(measure_manager(args)))
        case "gaps":
            print(json.dumps(asyncio.run(measure_gaps(args))))
        case "http":
            print(json.dumps({str(level): asyncio.run(http_rate(args, level)) for level in levels(args)}))
        case _:
            print(json.dumps(asyncio.run(measure_engine(args))))


if __name__ == "__main__":
    main()
