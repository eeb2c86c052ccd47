"""The real model: an answer continued after kill -9 is exactly the answer of an undisturbed run."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import events
from millstream.common.broker import keys
from millstream.common.job import ModelName
from tests.harness.cluster import CHAT, Cluster
from tests.harness.support import wait_until

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]
NAME = ModelName("smollm2-135m-instruct")
START = 180.0  # seconds; loading a model on a busy machine
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}}}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}

QUESTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "logprobs": True, "top_logprobs": 2},
    "seeded, two choices": {"temperature": 0.9, "top_p": 0.9, "seed": 7, "n": 2},
    "penalties": {"temperature": 0.7, "seed": 3, "frequency_penalty": 0.8, "presence_penalty": 0.3},
    "stop string": {"temperature": 0, "stop": ["you explore Japan"]},
    "JSON schema": {
        "temperature": 0.8,
        "seed": 5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
    },
    "forced tool": {"temperature": 0, "tools": [TOOL], "tool_choice": "required"},
}


@dataclass
class Choice:
    """One choice of an answer, folded from a stream or taken from a whole one."""

    text: str = ""
    call: str = ""
    finish: str | None = None
    tokens: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list, compare=False)

    def add(self, entry: dict[str, Any]) -> None:
        said = entry.get("delta") or entry.get("message") or {}
        self.text += said.get("content") or ""
        for call in said.get("tool_calls") or []:
            self.call += (call["function"].get("name") or "") + (call["function"].get("arguments") or "")
        self.finish = entry.get("finish_reason") or self.finish
        for one in (entry.get("logprobs") or {}).get("content") or []:
            self.tokens.append(one["token"])
            self.logprobs.append(one["logprob"])
            assert len(one["top_logprobs"]) == 2


@dataclass
class WholeAnswer:
    choices: list[Choice]
    usage: dict[str, Any] = field(default_factory=dict)
    pieces: int = 0

    @property
    def whole(self) -> tuple[list[Choice], Any]:
        return self.choices, self.usage.get("completion_tokens")


def question(kind: str) -> dict[str, Any]:
    words = [{"role": "user", "content": "Tell me about the largest city of Japan and its history."}]
    return {"model": NAME, "messages": words, "max_tokens": 50, **QUESTIONS[kind]}


async def undisturbed(site: Cluster, gateway: FleetPart, kind: str) -> WholeAnswer:
    body = (await site.http.post(gateway.url + CHAT, json=question(kind), timeout=START)).json()
    answer = WholeAnswer([Choice() for _ in body["choices"]], body["usage"])
    for entry in body["choices"]:
        answer.choices[entry["index"]].add(entry)
    return answer


async def streamed(site: Cluster, gateway: FleetPart, kind: str, answer: WholeAnswer) -> None:
    body = {**question(kind), "stream": True, "stream_options": {"include_usage": True}}
    async with site.http.stream("POST", gateway.url + CHAT, json=body, timeout=START) as response:
        async for _, data in events(response):
            if data == "[DONE]":
                return
            event = json.loads(data)
            assert "error" not in event, event
            answer.usage = event.get("usage") or answer.usage
            answer.pieces += 1
            for entry in event["choices"]:
                answer.choices[entry["index"]].add(entry)


async def serving(site: Cluster, workers: int) -> bool:
    return await site.broker.redis.zcard(keys.load(NAME)) >= workers


async def test_continued_answers_are_the_undisturbed_ones(site: Cluster) -> None:
    model = {"engine": "transformers", "model": "smollm2", "threads": "1", "slots": "8"}
    gateway = await site.gateway()
    first = await site.fleet.worker(**model)
    await wait_until(lambda: serving(site, 1), within=START, what="the model is loaded")
    answers = await asyncio.gather(*(undisturbed(site, gateway, kind) for kind in QUESTIONS))
    right = dict(zip(QUESTIONS, answers, strict=True))
    assert right["stop string"].choices[0].finish == "stop"
    await site.fleet.worker(**model)
    await wait_until(lambda: serving(site, 2), within=START, what="the second worker is there")

    got = {kind: WholeAnswer([Choice() for _ in answer.choices]) for kind, answer in right.items()}
    async with asyncio.TaskGroup() as tasks:
        for kind, answer in got.items():
            tasks.create_task(streamed(site, gateway, kind, answer))
        await wait_until(lambda: min(answer.pieces for answer in got.values()) >= 4, within=START)
        held = await site.broker.redis.hlen(keys.fences(NAME, await id_of(site, first)))
        await first.kill()
    assert held, "it was running some of them"
    for kind in QUESTIONS:
        assert got[kind].whole == right[kind].whole, kind
        for mine, theirs in zip(got[kind].choices, right[kind].choices, strict=True):
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=0.01), kind


async def id_of(site: Cluster, part: FleetPart) -> Any:
    for name in await site.broker.redis.zrange(keys.load(NAME), 0, -1):
        if await site.broker.redis.hget(keys.worker(NAME, name), "pid") == str(part.pid):
            return name
    raise AssertionError("the worker is not there")
