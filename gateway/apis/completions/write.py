"""Writes completions: events from chunks, bodies from accumulated answers. Streamed and whole objects have the same
shape."""

from typing import Any, Literal

import msgspec

from millstream.common.chunk import Chunk, Start, TokenLogprob, Usage
from millstream.common.errors import MillstreamError
from millstream.gateway.apis.chat.write import DONE, sse
from millstream.gateway.apis.completions.read import Candidates
from millstream.gateway.apis.shared.write.logprobs import completion_logprobs, finite
from millstream.gateway.apis.shared.write.open_weights import RunningUsage, about_prompt
from millstream.gateway.connection.sse import SSE
from millstream.gateway.errors.table import error_json
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.requests.usage import total, usage_object

encode = msgspec.json.Encoder().encode


class CompletionStream:
    """A completion as a stream of `text_completion`. With logprobs each token's place in the text is told, so a
    resumed stream is folded from its beginning."""

    framing = SSE

    def __init__(self, head: ResponseMeta, candidates: Candidates, *, include_usage: bool) -> None:
        self.needs_history = candidates.logprobs is not None or candidates.running_usage
        self._plain = not (candidates.token_ids or candidates.running_usage)
        self._usage = RunningUsage()
        self._head = head
        self._candidates = candidates
        self._include_usage = include_usage
        self._offsets: dict[int, int] = {}  # choice -> characters told so far
        self._prepare()

    def _prepare(self) -> None:
        head = _head(self._head) | {"system_fingerprint": self._head.fingerprint}
        self._open = encode(head)[:-1]
        usage = b',"usage":null' if self._include_usage else b""
        self._close = usage + b"}"
        opening = b"id: %b\ndata: " + self._open.replace(b"%", b"%%")
        choice = b',"choices":[{"index":%d,"text":%b,"logprobs":null,"finish_reason":null}]'
        self._text_event = opening + choice + usage + b"}\n\n"

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        if self._plain and chunk.text and not (chunk.logprobs or chunk.start or chunk.finish):
            return self._text_event % (place, choice, encode(chunk.text))
        echo, tokens = "", chunk.logprobs
        if chunk.start is not None:
            self._head.learn(chunk.start)
            self._prepare()
            echo, tokens = chunk.start.echo, _told(chunk.start, self._candidates) + chunk.logprobs
        tail = self._close
        if self._candidates.running_usage:
            tail = b',"usage":%b}' % encode(self._usage.add(chunk))
        if not (echo or chunk.text or tokens or chunk.finish or (self._candidates.token_ids and chunk.ids)):
            return b""
        entry: dict[str, Any] = {
            "index": choice,
            "text": echo + chunk.text,
            "logprobs": self._logprobs(choice, tokens),
            "finish_reason": _finish(chunk.finish),
        }
        if self._candidates.token_ids:
            entry |= {"token_ids": chunk.ids, "prompt_token_ids": chunk.start.prompt_ids if chunk.start else None}
        return sse(b'%b,"choices":[%b]%b' % (self._open, encode(entry), tail), place)

    def _logprobs(self, choice: int, tokens: list[TokenLogprob]) -> dict[str, object] | None:
        if self._candidates.logprobs is None or not tokens:
            return None
        offset = self._offsets.get(choice, 0)
        self._offsets[choice] = offset + sum(len(token.token) for token in tokens)
        return completion_logprobs(tokens, offset)

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        if not self._include_usage or not usages:
            return DONE
        usage = encode(usage_object(total(usages, self._candidates.made)))
        return sse(b'%b,"choices":[],"usage":%b}' % (self._open, usage), place) + DONE

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        return sse(error_json(error), place)


def completion_body(head: ResponseMeta, accumulators: list[Accumulator], candidates: Candidates) -> dict[str, Any]:
    """Returns the whole answer: of each prompt's candidates the best, ranked by log probability per token."""
    for accumulator in accumulators:
        head.learn(accumulator.start)
    kept = [
        accumulator
        for first in range(0, len(accumulators), candidates.made)
        for accumulator in best(accumulators[first : first + candidates.made], candidates.kept)
    ]
    return _head(head) | {
        "choices": [_choice(index, accumulator, candidates) for index, accumulator in enumerate(kept)],
        "usage": usage_object(total([accumulator.usage for accumulator in accumulators], candidates.made)),
        "system_fingerprint": head.fingerprint,
    }


def best(accumulators: list[Accumulator], kept: int) -> list[Accumulator]:
    """Returns all answers in order if all are wanted, else the likeliest per token first."""
    return accumulators if kept == len(accumulators) else sorted(accumulators, key=_likelihood, reverse=True)[:kept]


def _likelihood(accumulator: Accumulator) -> float:
    if not accumulator.logprobs:
        return finite(None)
    return sum(finite(token.logprob) for token in accumulator.logprobs) / len(accumulator.logprobs)


def _told(start: Start, candidates: Candidates) -> list[TokenLogprob]:
    """Returns the prompt's tokens that belong to the text: those echoed, with as many alternatives as asked for."""
    if not candidates.echo or candidates.logprobs is None:
        return []
    return [
        TokenLogprob(token.token, token.logprob, token.id, token.top[: candidates.logprobs], token.bytes)
        for token in start.prompt_logprobs
    ]


def _choice(index: int, accumulator: Accumulator, candidates: Candidates) -> dict[str, Any]:
    start, scored = accumulator.start, candidates.prompt_logprobs
    tokens = _told(start, candidates) + accumulator.logprobs
    about = about_prompt(start, ids=candidates.token_ids, logprobs=scored is not None)
    return {
        "index": index,
        "text": accumulator.start.echo + accumulator.text,
        "logprobs": completion_logprobs(tokens, 0) if candidates.logprobs is not None else None,
        "finish_reason": _finish(accumulator.finish),
        **({"token_ids": accumulator.ids} if candidates.token_ids else {}),
        **about,
    }


def _finish(reason: str | None) -> Literal["stop", "length", "content_filter"] | None:
    match reason:
        case None | "length" | "content_filter":
            return reason
        case _:
            return "stop"


def _head(head: ResponseMeta) -> dict[str, Any]:
    return {"id": head.id, "object": "text_completion", "created": head.created, "model": head.model}
