"""Kills the worker that computes at every k-th token, and counts the answers that are what they would have been.

    python -m bench.exactness                                    # the simulated engine
    python -m bench.exactness --engine transformers              # the sample model; or vllm
    python -m bench.exactness --upstream http://127.0.0.1:8080   # any OpenAI server

Two workers serve the model; the one that holds the answer gets SIGKILL, the other goes on, and the dead one is started
again. For each set of parameters the table tells how many answers equal the undisturbed one, differ from it after the
kill, or ended with an error that says so. `lost` are answers whose beginning is not what a client had: always 0.
"""

import argparse
import asyncio
import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
from rich.console import Console
from rich.table import Table

from millstream.bench.chaos.fleet import Fleet
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import ModelInfo, census
from millstream.common.job import JobId

WORKERS = 2
LOOK_EVERY = 0.05  # seconds
QUESTION = [{"role": "user", "content": "Tell me a story about a mill by a stream."}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
SEEDED: dict[str, Any] = {"seed": 7, "temperature": 0.9}
GREEDY: dict[str, Any] = {"seed": 7, "temperature": 0}  # the simulated engine needs the seed to repeat itself

SETS: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "seed": SEEDED,
    "seed, top_p": {**SEEDED, "top_p": 0.8},
    "seed, top_k": {**SEEDED, "top_k": 20},
    "seed, min_p": {**SEEDED, "min_p": 0.05},
    "repetition penalty": {**GREEDY, "repetition_penalty": 1.2},
    "presence penalty": {**GREEDY, "presence_penalty": 0.7},
    "frequency penalty": {**GREEDY, "frequency_penalty": 0.7},
    "logit bias": {**GREEDY, "logit_bias": {"28": -5}},
    "min tokens": {**GREEDY, "min_tokens": 16},
    "log-probabilities": {**GREEDY, "logprobs": True, "top_logprobs": 2},
    "JSON schema": {**GREEDY, "response_format": FORMAT},
    "forced tool call": {**GREEDY, "tools": [TOOL], "tool_choice": "required"},
}


@dataclass
class HeardAnswer:
    """An answer as a client put it together."""

    text: str = ""
    calls: str = ""
    finish: str = ""
    level: str = ""
    error: str = ""
    pieces: int = 0

    @property
    def said(self) -> tuple[str, str, str]:
        return self.text, self.calls, self.finish

    def add(self, event: dict[str, Any]) -> None:
        """Adds one event's data."""
        if "error" in event:
            self.error = str(event["error"]["code"])
        for choice in event.get("choices", []):
            delta = choice["delta"]
            calls = cast(list[dict[str, Any]], delta.get("tool_calls") or [])
            called = "".join(f"{call['function'].get('name', '')}{call['function']['arguments']}" for call in calls)
            self.text += (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            self.calls += called
            self.finish = choice["finish_reason"] or self.finish
            self.pieces += bool(delta.get("content") or called)


OnPiece = Callable[[str, HeardAnswer], Awaitable[None]]


async def nothing(id: str, answer: HeardAnswer) -> None:
    """Lets the answer be."""


@dataclass
class ExactnessBench:
    """A cluster whose workers die."""

    http: httpx.AsyncClient
    broker: Broker
    tokens: int

    async def model(self) -> ModelInfo:
        """Returns the model as soon as all its workers are alive."""
        while True:
            found = [info for info in await census(self.broker) if info.live >= WORKERS]
            if found:
                return found[0]
            await asyncio.sleep(LOOK_EVERY)

    async def ask(self, parameters: dict[str, Any], on_piece: OnPiece = nothing) -> HeardAnswer:
        """Returns the answer to the question; `on_piece` is told after each piece of it."""
        answer, model = HeardAnswer(), (await self.model()).name
        body = {"model": model, "messages": QUESTION, "max_tokens": self.tokens, "stream": True, **parameters}
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            answer.level = response.headers.get("x-millstream-exactness", "")
            if response.status_code != 200:
                answer.error = str(json.loads(await response.aread())["error"]["code"] or response.status_code)
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    answer.add(json.loads(line.removeprefix("data: ")))
                    await on_piece(response.headers["x-millstream-request"], answer)
        return answer

    async def kill_holder(self, job: str) -> None:
        """Ends the process that computes a job."""
        info = await self.model()
        found = cast(Awaitable[str | None], self.broker.redis.hget(keys.job(info.name, JobId(job)), "worker"))
        holder = await found
        for worker in info.workers:
            if worker.id == holder:
                os.kill(int(worker.details["pid"]), signal.SIGKILL)

    async def killed_at(self, parameters: dict[str, Any], at: int) -> tuple[HeardAnswer, str]:
        """Returns the answer whose worker was killed after so many pieces, and what the client had had by then."""
        had: list[str] = []

        async def kill(id: str, answer: HeardAnswer) -> None:
            if answer.pieces >= at and not had:
                had.append(answer.text + answer.calls)
                await self.kill_holder(id)

        return await self.ask(parameters, kill), "".join(had)

    async def row(self, parameters: dict[str, Any], every: int) -> tuple[str, Counter[str]]:
        """Returns the stated level, and how many answers ended how."""
        whole = await self.ask(parameters)
        if whole.error:
            return whole.error, Counter()
        counts = Counter(repeatable=int((await self.ask(parameters)).said == whole.said))
        for at in range(every, whole.pieces, every):
            answer, had = await self.killed_at(parameters, at)
            counts["kills"] += 1
            counts[_verdict(answer, whole, had)] += 1
        return whole.level, counts


def _verdict(answer: HeardAnswer, whole: HeardAnswer, had: str) -> str:
    if not (answer.text + answer.calls).startswith(had):
        return "lost"
    if answer.error:
        return "error"
    return "equal" if answer.said == whole.said else "differs"


async def run(options: argparse.Namespace) -> None:
    """Prints the table of one engine."""
    settings: dict[str, str] = {"engine": options.engine, "lease": "1"}
    if options.upstream:
        settings |= {"engine": "openai", "upstream": options.upstream}
    if options.tokenizer:
        settings["tokenizer"] = options.tokenizer
    if options.model:
        settings["model"] = options.model
    if settings["engine"] == "simulated":
        settings["simulated_rate"] = "100"
    console = Console(width=120)
    table = Table("parameters", "stated", "kills", "equal", "differs", "error", "lost", "repeatable")
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedValkey(Path(folder) / "valkey") as valkey,
            Fleet(Path(folder) / "logs", valkey.url, lease="1") as fleet,
            Broker(valkey.url) as broker,
        ):
            gateway = await fleet.gateway()
            for _ in range(WORKERS):
                await fleet.worker(supervised=True, **settings)
            async with httpx.AsyncClient(base_url=gateway.url, timeout=None) as http:
                bench = ExactnessBench(http, broker, options.tokens)
                for name in options.sets or SETS:
                    level, counts = await bench.row(SETS[name], options.every)
                    columns = ("kills", "equal", "differs", "error", "lost")
                    repeats = ("yes" if counts["repeatable"] else "no") if counts else "-"
                    console.print(f"{name}: {dict(counts)}", highlight=False)
                    table.add_row(name, level, *(str(counts[column]) for column in columns), repeats)
    console.print(f"{settings.get('upstream') or settings['engine']}, {options.tokens} tokens", table)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.exactness", description=__doc__)
    parser.add_argument("--engine", choices=("simulated", "transformers", "vllm"), default="simulated")
    parser.add_argument("--upstream", default="", help="URL of an OpenAI server that computes instead")
    parser.add_argument("--tokenizer", default="", help="of that server's model: its token ids are used then")
    parser.add_argument("--model", default="", help="as `millstream worker --model`")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--every", type=int, default=8, help="a kill at every so many tokens")
    parser.add_argument("--sets", action="append", choices=tuple(SETS), help="only these sets of parameters")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
