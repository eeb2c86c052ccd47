"""The engine with all before it: the same prompts through gateway, Redis and worker, each a process of its own."""

import asyncio
import time
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from millstream.bench.chaos.fleet import Fleet, FleetPart
from millstream.common.broker.embedded import EmbeddedValkey

LOADED_WITHIN = 300.0  # seconds
MODEL = "measured"


async def measure_http(args: Namespace, prompts: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Returns the tokens/s of `prompts` (messages) sent at once as streams, the best of `args.repeats`. With the CPU
    clock the seconds are those of the worker's process, whose one computing thread is the engine's."""
    with TemporaryDirectory() as folder:
        async with EmbeddedValkey(Path(folder) / "valkey") as valkey, Fleet(Path(folder) / "logs", valkey.url) as fleet:
            gateway, worker = (
                await fleet.gateway(),
                await fleet.worker(supervised=False, **worker_settings(args, len(prompts))),
            )
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=gateway.url, timeout=LOADED_WITHIN, limits=limits) as client:
                await loaded(client)
                rates = [await one_round(client, worker, args, prompts) for _ in range(args.repeats)]
    return {"rate": max(rates)}


def worker_settings(args: Namespace, level: int) -> dict[str, str]:
    """Returns the worker's settings: the engine is set up as when it is measured alone."""
    names = {"engine": "transformers", "model": args.model, "served_model_name": f'["{MODEL}"]', "dtype": args.dtype}
    threads = {"threads": "1"} if args.clock == "cpu" else {}
    return {**names, "max_model_len": "2048", "slots": str(max(32, level)), **threads}


async def loaded(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(LOADED_WITHIN):
        while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110 (another process: no event)
            await asyncio.sleep(0.1)


async def one_round(client: httpx.AsyncClient, worker: FleetPart, args: Namespace, prompts: list[Any]) -> float:
    began = clock(args, worker)
    await asyncio.gather(*(answer(client, messages, args.tokens) for messages in prompts))
    return len(prompts) * args.tokens / (clock(args, worker) - began)


async def answer(client: httpx.AsyncClient, messages: list[dict[str, Any]], tokens: int) -> None:
    body = {"model": MODEL, "messages": messages, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
        response.raise_for_status()
        async for _ in response.aiter_bytes():
            pass


def clock(args: Namespace, worker: FleetPart) -> float:
    """Returns seconds of the wall, or of the worker's process."""
    if args.clock == "wall":
        return time.perf_counter()
    used = psutil.Process(worker.pid).cpu_times()
    return used.user + used.system
