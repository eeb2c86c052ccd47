"""One job's text: what becomes readable as its tokens come. Pure: what a token makes readable depends on the tokens
before it alone, never on time or on how they were cut into chunks, so another worker can go on exactly."""

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from millstream.common.chunk import Chunk, FinishReason, TokenLogprob, ToolDelta, TopLogprob, Usage
from millstream.common.job import ChatPrompt, JobRequest
from millstream.worker.engines.base import RawLogprob, Tokenizer
from millstream.worker.text.detokenize import Detokenizer
from millstream.worker.text.parsers.channels import Channels
from millstream.worker.text.parsers.formats import CallFormat, parser_for, reasons
from millstream.worker.text.parsers.headed_calls import HeadedCalls
from millstream.worker.text.parsers.json_calls import JsonCalls
from millstream.worker.text.parsers.parsed import Parsed
from millstream.worker.text.parsers.pythonic import PythonicCalls
from millstream.worker.text.parsers.reasoning import OPEN, ReasoningParser
from millstream.worker.text.parsers.tagged_calls import TaggedCalls
from millstream.worker.text.stop_strings import StopMatcher

_TAIL = 16  # prompt tokens in which a template's opening <think> is looked for


class Transcript:
    """Detokenise, match stop strings, take out reasoning, take out tool calls. `calls`: the notation of tool calls;
    without it the tokenizer's chat template tells."""

    def __init__(
        self, tokenizer: Tokenizer, request: JobRequest, prompt: Sequence[int], calls: CallFormat | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._repeats_prompt = request.repeats_prompt
        self._sampling = request.sampling
        template = str(getattr(tokenizer, "chat_template", "") or "")
        chat = request.input if isinstance(request.input, ChatPrompt) else None
        notation = calls or parser_for(template)
        offered = chat is not None and bool(chat.tools) and request.tool_use is not None
        format = notation if offered or (chat is not None and notation.channels) else None
        tools = chat.tools if chat is not None and offered else []
        self._calls = self._calls_parser(format, request, tools) if format is not None else None
        opened = chat is not None and tokenizer.decode(prompt[-_TAIL:], skip_special=False).rstrip().endswith(OPEN)
        bound = request.guide is not None or (request.tool_use is not None and request.tool_use.choice != "auto")
        thinks = chat is not None and not bound and (opened or reasons(template))  # a grammar leaves no room for it
        self._reasoning = ReasoningParser(opened) if thinks and not notation.channels else None
        self._thinker = self._calls if isinstance(self._calls, Channels) else self._reasoning
        goes_on = chat is None or chat.continue_final_message
        self._detokenizer = Detokenizer(tokenizer, self._markers(format), prompt if goes_on else ())
        self._stops = StopMatcher(request.sampling.stop, request.sampling.include_stop)
        self._count = 0
        self._reasoned = 0
        self._plain = self._calls is None and self._reasoning is None

    @property
    def stopped(self) -> bool:
        """Tells whether a stop string has ended the text: nothing readable follows."""
        return self._stops.hit

    def refeed(self, ids: Sequence[int]) -> None:
        """Take up the tokens of earlier leases, whose text is delivered already."""
        for token in ids:
            self.feed(token, None, "stop" if token in self._sampling.stop_token_ids else None)

    def feed(self, token: int, logprob: RawLogprob | None, finish: FinishReason | None) -> Chunk:
        """Returns the chunk of one new token. `finish == "stop"`: it is the stop token, which has no text."""
        self._count += 1
        if finish == "stop":
            return Chunk(ids=[token])
        text = self._detokenizer.feed(token)
        if self._count > self._sampling.min_tokens:  # until then a stop string is as little an end as an end token
            text = self._stops.feed(text)
        logprobs = [self._logprob(token, logprob)] if logprob is not None else []
        if self._plain:
            return Chunk(ids=[token], text=text, logprobs=logprobs)
        thinking = self._thinker is not None and self._thinker.inside
        parsed = Parsed()
        self._parse(text, parsed)
        self._reasoned += thinking or (self._thinker is not None and self._thinker.inside)
        return Chunk([token], parsed.text, parsed.reasoning, parsed.tools, logprobs)

    def end(self, reason: FinishReason, cached: int = 0) -> list[Chunk]:
        """Returns what was held back, if anything, then the last chunk with the finish reason and the usage."""
        text = self._stops.feed(self._detokenizer.flush())
        text += self._stops.flush()
        parsed = Parsed()
        self._parse(text, parsed)
        self._finish(parsed)
        if self._stops.hit:
            reason = "stop"
        if reason == "stop" and self._calls is not None and self._calls.calls:
            reason = "tool_calls"
        prompt, cached = (0, 0) if self._repeats_prompt else (len(self._prompt), cached)
        usage = Usage(prompt, self._count, cached, self._reasoned)
        held = [Chunk([], parsed.text, parsed.reasoning, parsed.tools)] if parsed else []
        return [*held, Chunk(finish=reason, stopped_by=self._stops.stopped_by, usage=usage)]

    def prompt_logprobs(self, raw: Sequence[RawLogprob]) -> list[TokenLogprob]:
        """Returns the prompt's tokens with their logprobs, one each; the first has none."""
        return [self._logprob(token, logprob) for token, logprob in zip(self._prompt, raw, strict=False)]

    def _parse(self, text: str, out: Parsed) -> None:
        answer = text if self._reasoning is None else self._reasoning.feed(text, out)
        self._answer(answer, out)

    def _finish(self, out: Parsed) -> None:
        if self._reasoning is not None:
            self._answer(self._reasoning.finish(out), out)
        if self._calls is not None:
            self._calls.finish(out)

    def _answer(self, answer: str, out: Parsed) -> None:
        if self._calls is None:
            out.text += answer
        elif answer:
            self._calls.feed(answer, out)

    def _calls_parser(
        self, format: CallFormat, request: JobRequest, tools: list[dict[str, Any]]
    ) -> JsonCalls | PythonicCalls | TaggedCalls | HeadedCalls | Channels:
        parallel = request.tool_use is None or request.tool_use.parallel
        forced = request.tool_use is not None and request.tool_use.choice != "auto"
        if format.channels:
            return Channels(self._call_id, bool(tools), parallel, forced)
        if format.head is not None:
            return HeadedCalls(format, format.head, self._call_id, parallel, forced)
        if format.name == "pythonic":
            return PythonicCalls(self._call_id, parallel, forced)
        if format.tags is not None and not forced:
            return TaggedCalls(format, format.tags, self._call_id, tools, parallel)
        return JsonCalls(format, self._call_id, parallel, forced)

    def _call_id(self, index: int) -> str:
        """Returns the id of a call: the same on every worker, another one for another request."""
        seed = array("Q", [self._sampling.seed & (1 << 64) - 1, index])
        digest = blake2b(seed.tobytes() + array("q", self._prompt).tobytes(), digest_size=12)
        return f"call_{digest.hexdigest()}"

    def _markers(self, format: CallFormat | None) -> dict[int, str]:
        """Returns the special tokens, else left out of the text, that the parser needs to see."""
        markers = [OPEN, "</think>"] if self._reasoning is not None else []
        markers += format.tokens if format is not None else ()
        ids = [(self._tokenizer.encode(marker, special=False), marker) for marker in markers]
        return {found[0]: mark for found, mark in ids if len(found) == 1 and not self._tokenizer.decode(found)}

    def _logprob(self, token: int, raw: RawLogprob) -> TokenLogprob:
        written = self._tokenizer.token_bytes(token)
        top = [self._alternative(id, logprob) for id, logprob in raw.top]
        return TokenLogprob(written.decode("utf-8", "replace"), raw.logprob, token, top, list(written))

    def _alternative(self, token: int, logprob: float) -> TopLogprob:
        written = self._tokenizer.token_bytes(token)
        text = written.decode("utf-8", "replace")
        return TopLogprob(text, logprob, token, [] if text.encode() == written else list(written))


def merge(chunks: Sequence[Chunk]) -> Chunk:
    """Returns several tokens' chunks of one job as one; neither a start nor a last chunk is among them."""
    return Chunk(
        ids=[token for chunk in chunks for token in chunk.ids],
        count=sum(chunk.count for chunk in chunks),
        text="".join(chunk.text for chunk in chunks),
        reasoning="".join(chunk.reasoning for chunk in chunks),
        tools=join_tools([delta for chunk in chunks for delta in chunk.tools]),
        logprobs=[logprob for chunk in chunks for logprob in chunk.logprobs],
    )


def join_tools(deltas: Sequence[ToolDelta]) -> list[ToolDelta]:
    """Returns the same calls in as few deltas as can be."""
    joined: list[ToolDelta] = []
    for delta in deltas:
        if joined and joined[-1].index == delta.index and not delta.id:
            last = joined[-1]
            joined[-1] = ToolDelta(last.index, last.id, last.name, last.arguments + delta.arguments)
        else:
            joined.append(delta)
    return joined
