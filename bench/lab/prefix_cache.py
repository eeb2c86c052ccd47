"""Measures what the prefix policy brings on chats of several turns, with a real model.

Run it with `python -m bench.lab.prefix_cache [chats] [turns]`.

Two worker processes; conversations run side by side, each turn sends the whole history. Told for each policy: which
part of the prompt tokens came from a cache, and the seconds to the first token (from the second turn on).
"""

import asyncio
import json
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import httpx

from millstream.bench.chaos.fleet import Fleet
from millstream.bench.lab.fairness import quantile
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import census
from millstream.common.broker.models.policy import Policy, Rule, write_policy
from millstream.common.job import ModelName
from millstream.common.process import loop

WORKERS, SLOTS, THREADS = 2, 4, 1
OPENING_WORDS, TURN_WORDS, ANSWER = 300, 30, 16
WORDS = ("river", "stone", "cloud", "ember", "willow", "harbour", "lantern", "meadow", "copper", "velvet", "thunder")
LOOK_EVERY = 0.2  # seconds


@dataclass(slots=True)
class ChatTurn:
    """One turn's figures: prompt tokens, those of them from a cache, seconds to the first token."""

    prompt: int
    cached: int
    first: float


def words(chance: random.Random, count: int) -> str:
    """Returns nonsense, the same for the same seed."""
    return " ".join(chance.choices(WORDS, k=count))


async def turn(http: httpx.AsyncClient, model: str, messages: list[dict[str, str]]) -> tuple[ChatTurn, str]:
    """Asks for the next answer."""
    body = {"model": model, "messages": messages, "max_tokens": ANSWER, "temperature": 0, "stream": True}
    began, first, text = monotonic(), 0.0, ""
    prompt, cached = 0, 0
    options = {"stream_options": {"include_usage": True}}
    async with http.stream("POST", "/v1/chat/completions", json=body | options) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event["choices"]:
                said = choice["delta"].get("content") or ""
                first = first or (monotonic() - began if said else 0.0)
                text += said
            if usage := event.get("usage"):
                prompt = int(usage["prompt_tokens"])
                cached = int(usage["prompt_tokens_details"]["cached_tokens"])
    return ChatTurn(prompt, cached, first or monotonic() - began), text


async def converse(http: httpx.AsyncClient, model: str, seed: int, turns: int) -> list[ChatTurn]:
    """Holds one conversation, with a pause for thought between its turns."""
    chance = random.Random(seed)
    messages = [{"role": "system", "content": words(chance, OPENING_WORDS)}]
    done: list[ChatTurn] = []
    for _ in range(turns):
        messages.append({"role": "user", "content": words(chance, TURN_WORDS)})
        figures, answer = await turn(http, model, messages)
        messages.append({"role": "assistant", "content": answer})
        done.append(figures)
        await asyncio.sleep(chance.uniform(0.2, 1.0))
    return done


async def measured(directory: Path, rule: Rule, conversations: int, turns: int) -> None:
    """Measures a cluster of its own for each policy, so that no cache is warm from the last one."""
    async with (
        EmbeddedValkey(directory / "valkey") as valkey,
        Broker(valkey.url) as broker,
        Fleet(directory / "logs", valkey.url) as fleet,
    ):
        gateway = await fleet.gateway()
        for _ in range(WORKERS):
            await fleet.worker(engine="transformers", slots=str(SLOTS), threads=str(THREADS))
        model = await _ready(broker)
        await write_policy(broker, model, Policy(rule))
        async with httpx.AsyncClient(base_url=gateway.url, timeout=300) as http:
            await asyncio.gather(*(converse(http, model, 1000 + seed, 1) for seed in range(4)))  # warmed up, measured
            runs = await asyncio.gather(*(converse(http, model, seed, turns) for seed in range(conversations)))
    later = [each for run in runs for each in run[1:]]
    rate = sum(each.cached for each in later) / max(1, sum(each.prompt for each in later))
    firsts = [each.first for each in later]
    print(f"{rule:16} {rate:6.1%} {quantile(firsts, 0.5):8.2f} {quantile(firsts, 0.9):8.2f}", flush=True)


async def _ready(broker: Broker) -> ModelName:
    while True:
        for info in await census(broker):
            if info.live == WORKERS:
                return info.name
        await asyncio.sleep(LOOK_EVERY)


async def main(arguments: list[str]) -> None:
    """Measures both policies, one after the other."""
    conversations, turns = (int(each) for each in [*arguments, "6", "4"][:2])
    print(f"{WORKERS} workers of {SLOTS} slots, {conversations} conversations of {turns} turns")
    print(f"{'policy':16} {'cached':>6} {'p50 s':>8} {'p90 s':>8}   (turns after the first)")
    rules: tuple[Rule, ...] = ("shortest_queue", "prefix")
    for rule in rules:
        with tempfile.TemporaryDirectory() as directory:
            await measured(Path(directory), rule, conversations, turns)


if __name__ == "__main__":
    loop.run(main(sys.argv[1:]))
