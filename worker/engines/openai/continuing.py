"""Goes on with an answer that another lease began: from its text where the upstream can, by asking again where the same
answer can be expected, and else not at all. What a client has had is never spliced with something else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from millstream.common.chunk import Chunk, ToolDelta, Usage
from millstream.common.errors import Interrupted
from millstream.common.job import ChatPrompt, JobRequest, TextPrompt
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.bodies import UpstreamBody, body_of, going_on


class Seam(Protocol):
    """The place where a new answer meets what an earlier one delivered."""

    def cut(self, chunk: Chunk) -> Chunk | None:
        """Returns of a new chunk what was not delivered yet. Raises `Interrupted` if it does not fit."""
        ...

    def last(self, chunk: Chunk) -> Chunk:
        """Returns the chunk that ends the whole answer."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A request to an upstream, and how its answer joins what was delivered. `over`: nothing is left to ask for."""

    route: str
    body: UpstreamBody
    seam: Seam
    over: Chunk | None = None


class Uncut:
    """The seam of an answer that begins."""

    def cut(self, chunk: Chunk) -> Chunk | None:
        return chunk

    def last(self, chunk: Chunk) -> Chunk:
        return chunk


@dataclass(slots=True)
class AfterText:
    """The upstream was given all but the white space at the end: templates trim it. What it makes of that first is
    passed over as far as it was delivered."""

    blank: str
    counted: int

    def cut(self, chunk: Chunk) -> Chunk | None:
        if not self.blank or not chunk.text:
            return chunk
        same = _common(self.blank, chunk.text)
        self.blank = self.blank[same:] if same == len(chunk.text) else ""
        return _unless_empty(msgspec.structs.replace(chunk, text=chunk.text[same:]))

    def last(self, chunk: Chunk) -> Chunk:
        """The upstream took the delivered text for a part of the prompt."""
        told = chunk.usage or Usage()
        prompt, completion = max(0, told.prompt - self.counted), told.completion + self.counted
        return msgspec.structs.replace(chunk, usage=Usage(prompt, completion, told.cached, told.reasoning))


@dataclass(slots=True)
class AskedAgain:
    """The upstream makes the whole answer again; what was delivered is compared and passed over."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, str] = field(default_factory=dict[int, str])  # name and arguments still to come

    @classmethod
    def after(cls, delivered: Sequence[Chunk]) -> "AskedAgain":
        """Returns the seam after these chunks."""
        seam = cls("".join(chunk.text for chunk in delivered), "".join(chunk.reasoning for chunk in delivered))
        for delta in (delta for chunk in delivered for delta in chunk.tools):
            seam.calls[delta.index] = seam.calls.get(delta.index, "") + delta.name + delta.arguments
        return seam

    def cut(self, chunk: Chunk) -> Chunk | None:
        text, self.text = _passed(chunk.text, self.text)
        reasoning, self.reasoning = _passed(chunk.reasoning, self.reasoning)
        tools = [tool for tool in map(self._tool, chunk.tools) if tool is not None]
        count = chunk.count if text or reasoning or tools else 0
        logprobs = chunk.logprobs if text == chunk.text else []
        return _unless_empty(Chunk([], text, reasoning, tools, logprobs, count=count))

    def _tool(self, delta: ToolDelta) -> ToolDelta | None:
        if delta.index not in self.calls:
            return delta
        whole = delta.name + delta.arguments
        rest, self.calls[delta.index] = _passed(whole, self.calls[delta.index])
        return ToolDelta(delta.index, arguments=rest) if rest else None

    def last(self, chunk: Chunk) -> Chunk:
        if self.text or self.reasoning or any(self.calls.values()):
            raise interrupted("asked again, the upstream ended its answer earlier")
        return chunk


def plan(request: JobRequest, abilities: Abilities, earlier: Sequence[Chunk]) -> Plan:
    """Returns what to ask. Raises `Interrupted` for a begun answer that cannot be gone on with, `BadRequest` for what
    the upstream cannot do."""
    route, body = body_of(request, abilities)
    delivered = [chunk for chunk in earlier if chunk.text or chunk.reasoning or chunk.tools]
    if not delivered:
        return Plan(route, body, Uncut())
    if abilities.exactness(request) == "text" and not any(chunk.reasoning or chunk.tools for chunk in delivered):
        return _after_text(route, body, request, abilities, earlier)
    if request.sampling.temperature == 0 or abilities.seed:
        return Plan(route, body, AskedAgain.after(delivered))
    raise interrupted("this upstream cannot go on with an answer of this kind")


def interrupted(why: str) -> Interrupted:
    """Returns the error of an answer that ends in its middle."""
    return Interrupted(f"What computed this answer died in the middle of it, and {why}. Send the request again.")


def _after_text(
    route: str, body: UpstreamBody, request: JobRequest, abilities: Abilities, earlier: Sequence[Chunk]
) -> Plan:
    delivered = "".join(chunk.text for chunk in earlier)
    text = delivered.rstrip()
    counted = sum(chunk.tokens for chunk in earlier)
    seam = AfterText(delivered[len(text) :], counted)
    body |= _room(body, counted)
    match request.input:
        case ChatPrompt(messages=messages) as prompt if text:
            body |= going_on(_extended(messages, text, joined=prompt.continue_final_message), abilities)
        case TextPrompt(prompt):
            body["prompt"] = prompt + text
        case _:
            pass
    bound = body.get("max_tokens", body.get("max_completion_tokens"))
    over = Chunk(finish="length", usage=Usage(0, counted)) if bound is not None and bound <= 0 else None
    return Plan(route, body, seam, over)


def _room(body: UpstreamBody, counted: int) -> UpstreamBody:
    """Returns the bounds of an answer of which so many tokens are there already."""
    bounds = {name: body[name] - counted for name in ("max_tokens", "max_completion_tokens") if name in body}
    least = {"min_tokens": max(0, body["min_tokens"] - counted)} if "min_tokens" in body else {}
    return bounds | least


def _extended(messages: list[dict[str, object]], text: str, *, joined: bool) -> list[dict[str, object]]:
    if not joined:
        return [*messages, {"role": "assistant", "content": text}]
    last = messages[-1]
    return [*messages[:-1], last | {"content": f"{last.get('content') or ''}{text}"}]


def _passed(new: str, expected: str) -> tuple[str, str]:
    """Returns what of `new` comes after what was expected, and what is expected still."""
    same = min(len(new), len(expected))
    if new[:same] != expected[:same]:
        raise interrupted("asked again, the upstream answered something else")
    return new[same:], expected[same:]


def _common(one: str, other: str) -> int:
    """Returns the length of the common beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _unless_empty(chunk: Chunk) -> Chunk | None:
    return chunk if chunk.text or chunk.reasoning or chunk.tools or chunk.logprobs else None
