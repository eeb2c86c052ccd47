"""Clients that read nothing as it comes: whole answers, batches and background responses of `millstream chaos`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx

from millstream.bench.chaos.faults import Faults
from millstream.bench.chaos.site import MODEL, ChaosSite
from millstream.bench.chaos.stream import COME_BACK_AFTER, TRANSIENT, Ask
from millstream.common.process.tasks import TaskGroup
from millstream.gateway.apis.shared.read.sampling import choice_seed

LOOK_EVERY = 0.3  # seconds between two looks at what is under way
LAST_ANSWERS = 120.0  # seconds that what is under way may take when the time is over
CHOICES = (1, 1, 2, 3)  # how many choices a whole answer has
REPEATED = 0.4  # part of the whole answers that are asked for again, at any gateway, with their key
FINE, GONE = 200, 404  # statuses
CHAT = "/v1/chat/completions"


@dataclass
class UnattendedTally:
    """Counts what was asked for and came out right; `forgotten` fell to a loss of Redis' tail, as the documents say."""

    wholes: int = 0
    repeats: int = 0
    batches: int = 0
    lines: int = 0
    responses: int = 0
    forgotten: int = 0
    open: int = 0
    wrong: list[str] = field(default_factory=list[str])

    def report(self) -> list[str]:
        return [
            f"{self.wholes} whole answers, {self.repeats} of them asked for twice; {self.batches} batches of "
            f"{self.lines} lines; {self.responses} background responses; {self.forgotten} forgotten by Redis.",
            *(f"! {wrong}" for wrong in self.wrong[:5]),
        ]


class Forgotten(Exception):
    """The cluster does not know what it had accepted, and Redis had lost its tail since."""


class Unattended:
    """Asks until the time is over, then waits for what is under way."""

    def __init__(self, site: ChaosSite, faults: Faults) -> None:
        self._site = site
        self._faults = faults
        self._asked = 0
        self.tally = UnattendedTally()

    async def run(self, seconds: float) -> None:
        until = monotonic() + seconds
        settings = self._site.settings
        kinds = [self._whole] * settings.whole
        if settings.background:
            kinds += [self._batch] * settings.batches + [self._response] * settings.batches
        try:
            async with asyncio.timeout(seconds + LAST_ANSWERS), TaskGroup() as tasks:
                for kind in kinds:
                    tasks.create_task(self._go_on(kind, until))
        except TimeoutError:
            self.tally.wrong.append(f"{self.tally.open} never came to their end")

    async def _go_on(self, kind: Callable[[], Awaitable[None]], until: float) -> None:
        while monotonic() < until:
            self.tally.open += 1
            try:
                await kind()
            except Forgotten:
                self.tally.forgotten += 1
            self.tally.open -= 1

    def _ask(self, longest: int) -> Ask:
        self._asked += 1
        choice = self._site.choice
        return Ask(MODEL, f"unattended {self._asked}", choice.randrange(1 << 31), choice.randrange(5, longest))

    async def _call(self, method: str, path: str, began: float, **options: Any) -> httpx.Response:
        """Returns the answer of whichever gateway has one. Raises `Forgotten`."""
        while True:
            try:
                answer = await self._site.http.request(method, self._site.gateway() + path, **options)
            except httpx.TransportError:
                await asyncio.sleep(COME_BACK_AFTER)
                continue
            if answer.status_code == GONE and self._faults.may_have_lost(began):
                raise Forgotten
            if answer.status_code not in TRANSIENT:
                return answer
            await asyncio.sleep(COME_BACK_AFTER)

    def _check(self, what: str, *, right: bool, told: object) -> None:
        if not right:
            self.tally.wrong.append(f"{what}: {str(told)[:300]}")

    # -------------------------------------------------------------------------------------------------- whole answers

    async def _whole(self) -> None:
        """Several choices at once, not streamed; perhaps asked for again under the same key."""
        ask, began = self._ask(self._site.settings.longest // 2), monotonic()
        count, headers = self._site.choice.choice(CHOICES), {"idempotency-key": f"whole-{ask.text}"}
        body = _body(ask) | {"n": count}
        first = await self._call("POST", CHAT, began, json=body, headers=headers)
        self._check(f"whole answer to {ask.text}", right=_has_choices(first, ask, count), told=first.text)
        self.tally.wholes += 1
        if self._site.choice.random() < REPEATED:
            again = await self._call("POST", CHAT, began, json=body, headers=headers)
            same = _is_same(first, again) or self._faults.may_have_lost(began)
            self._check(f"repeated {ask.text}", right=same and _has_choices(again, ask, count), told=again.text)
            self.tally.repeats += 1

    # -------------------------------------------------------------------------------------------------------- batches

    async def _batch(self) -> None:
        """Every line of the output once, in order, with the one right answer."""
        asks, began = [self._ask(60) for _ in range(self._site.choice.randrange(5, 25))], monotonic()
        lines = b"".join(_line(number, ask) for number, ask in enumerate(asks))
        upload = {"files": {"file": ("in.jsonl", lines)}, "data": {"purpose": "batch"}}
        file = (await self._call("POST", "/v1/files", began, **upload)).json()["id"]
        order = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        batch = await self._over("/v1/batches", order, began)
        if batch.get("status") != "completed":
            self._check("batch", right=False, told=batch)
            return
        text = (await self._call("GET", f"/v1/files/{batch['output_file_id']}/content", began)).text
        given = [json.loads(line) for line in text.splitlines()]
        names = [each["custom_id"] for each in given]
        self._check("lines", right=names == [f"line-{number}" for number in range(len(asks))], told=names)
        for ask, each in zip(asks, given, strict=False):
            said = each["response"]["body"]["choices"][0]["message"]["content"]
            self._check(f"line of {batch['id']}", right=said.split() == ask.answer(), told=each)
        self.tally.batches += 1
        self.tally.lines += len(given)

    async def _response(self) -> None:
        """A background response: asked for, and looked at until it is over."""
        ask, began = self._ask(self._site.settings.longest // 2), monotonic()
        order = {"model": ask.model, "input": ask.text, "seed": ask.seed, "max_output_tokens": ask.tokens}
        told = await self._over("/v1/responses", {**order, "background": True}, began)
        said = str(told["output"][0]["content"][0]["text"]) if told.get("output") else ""
        self._check("background response", right=said.split() == ask.answer(), told=told)
        self.tally.responses += 1

    async def _over(self, path: str, order: dict[str, Any], began: float) -> dict[str, Any]:
        """Returns what the order made, when it is over."""
        made = (await self._call("POST", path, began, json=order)).json()
        while made.get("status") in ("validating", "in_progress", "finalizing", "queued"):
            await asyncio.sleep(LOOK_EVERY)
            made = (await self._call("GET", f"{path}/{made['id']}", began)).json()
        if made.get("status", "failed") == "failed" and self._faults.may_have_lost(began):
            raise Forgotten  # or what it was to be made of
        return made


def _body(ask: Ask) -> dict[str, Any]:
    return {name: value for name, value in ask.body().items() if not name.startswith("stream")}


def _line(number: int, ask: Ask) -> bytes:
    line = {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": _body(ask)}
    return json.dumps(line).encode() + b"\n"


def _has_choices(answer: httpx.Response, ask: Ask, count: int) -> bool:
    """Tells whether every choice is the one right answer of its seed."""
    if answer.status_code != FINE:
        return False
    right = [Ask(ask.model, ask.text, choice_seed(ask.seed, at), ask.tokens).answer() for at in range(count)]
    return [choice["message"]["content"].split() for choice in answer.json()["choices"]] == right


def _is_same(first: httpx.Response, again: httpx.Response) -> bool:
    return bool(first.json().get("id") == again.json().get("id"))
