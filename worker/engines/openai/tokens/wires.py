"""Asks upstreams for a sequence of token ids, and reads their answers."""

from typing import Any, Protocol

import msgspec

from millstream.common.errors import EngineError
from millstream.worker.engines.base import Output, RawLogprob, SequenceSpec
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.bodies import MILLSTREAM, UpstreamBody, guide_body
from millstream.worker.engines.openai.reading import DONE, cut_off, decoded
from millstream.worker.engines.openai.refusals import refuse
from millstream.worker.engines.openai.settings import Address
from millstream.worker.engines.openai.tokens.vocabulary import UpstreamVocabulary
from millstream.worker.engines.sampling.sequence import stops_of

VLLM = "vllm"
SEEDS = 2**31  # that every server takes


class TokenReader(Protocol):
    """Reads the events of one answer."""

    @property
    def begun(self) -> bool: ...

    @property
    def done(self) -> bool: ...

    def read(self, data: bytes) -> list[Output]:
        """Returns the tokens in an event. Raises `EngineError` for what is none, `UpstreamLost` for an upstream that
        fails in mid-answer."""
        ...

    def last(self) -> Output | None:
        """Returns what ends the sequence, once the answer has come; None if its end is missing."""
        ...


class TokenWire(Protocol):
    """One way of asking for tokens."""

    def route(self, address: Address) -> str: ...

    def check(self, spec: SequenceSpec) -> None:
        """Raises `BadRequest` naming what cannot be asked for in this way, `BadGrammar` for a form of answers."""
        ...

    def body(self, spec: SequenceSpec, abilities: Abilities) -> UpstreamBody: ...

    def reader(self, spec: SequenceSpec) -> TokenReader: ...


def stops(spec: SequenceSpec, vocabulary: UpstreamVocabulary) -> frozenset[int]:
    """Returns the tokens that end a sequence."""
    return stops_of(spec, vocabulary.tokenizer.eos_ids, guided=spec.guide is not None)


def room(spec: SequenceSpec) -> int:
    """Returns how many tokens are still to be made."""
    return max(1, spec.max_tokens - len(spec.generated))


def seed_of(spec: SequenceSpec) -> int:
    """Returns a seed that differs with the place, so that a continuation does not meet the same noise again."""
    return (spec.sampling.seed + len(spec.generated)) % SEEDS


class CompletionsWire:
    """OpenAI's completions with token arrays and `return_token_ids`, as vLLM and Millstream have them."""

    def __init__(self, vocabulary: UpstreamVocabulary, abilities: Abilities) -> None:
        self._vocabulary = vocabulary
        self._abilities = abilities
        self._server = abilities.server

    def route(self, address: Address) -> str:
        return "/completions"

    def check(self, spec: SequenceSpec) -> None:
        wanted = spec.sampling.logprobs is not None and self._server == MILLSTREAM
        told = {"prompt_logprobs": spec.prompt_logprobs is not None, "bad_words": bool(spec.banned), "logprobs": wanted}
        refuse(told, self._server)
        if spec.guide is not None:
            guide_body(spec.guide, self._abilities)

    def body(self, spec: SequenceSpec, abilities: Abilities) -> UpstreamBody:
        s = spec.sampling
        body: UpstreamBody = {
            "model": abilities.model,
            "prompt": [*spec.prompt, *spec.generated],
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "max_tokens": room(spec),
            "temperature": s.temperature,
            "top_p": s.top_p,
            "top_k": s.top_k,
            "min_p": s.min_p,
            "repetition_penalty": s.repetition_penalty,
            "presence_penalty": s.presence_penalty,
            "frequency_penalty": s.frequency_penalty,
            "min_tokens": max(0, s.min_tokens - len(spec.generated)),
            "seed": seed_of(spec),
            "ignore_eos": True,  # ends are told as stop tokens, so that one rule holds for all engines
            "stop_token_ids": sorted(stops(spec, self._vocabulary)),
        }
        salt = spec.cache_salt if self._server == VLLM else ""
        optional = {"logit_bias": s.logit_bias, "allowed_token_ids": s.allowed_token_ids, "cache_salt": salt}
        body |= {name: value for name, value in optional.items() if value}
        if s.logprobs is not None:
            body |= {"logprobs": s.logprobs, "return_tokens_as_token_ids": True}
        return body | (guide_body(spec.guide, abilities) if spec.guide is not None else {})

    def reader(self, spec: SequenceSpec) -> TokenReader:
        return CompletionsReader(spec, stops(spec, self._vocabulary))


class NamedScores(msgspec.Struct):
    """Log probabilities whose tokens are named `token_id:N`."""

    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class TokensChoice(msgspec.Struct):
    """A part of the one choice that is asked for."""

    token_ids: list[int] | None = None
    logprobs: NamedScores | None = None
    finish_reason: str | None = None


class CachedPrompt(msgspec.Struct):
    """Details of the prompt."""

    cached_tokens: int | None = None


class TokensUsage(msgspec.Struct):
    """Token counts, as far as they matter."""

    prompt_tokens_details: CachedPrompt | None = None


class TokensReply(msgspec.Struct):
    """One event of a stream."""

    choices: list[TokensChoice] = []
    usage: TokensUsage | None = None
    error: Any = None


class StoppingReader:
    """The part of reading that is the same everywhere: ends are recognised by their ids."""

    def __init__(self, spec: SequenceSpec, stops: frozenset[int]) -> None:
        self._spec = spec
        self._stops = stops
        self._finish: str | None = None
        self._cached = 0
        self._ended = False  # an output has said so
        self.begun = False
        self.done = False

    def tokens(self, ids: list[int], scores: list[RawLogprob | None]) -> list[Output]:
        """Returns the outputs of new tokens, up to the first that ends the sequence."""
        outputs: list[Output] = []
        for token, score in zip(ids, scores, strict=True):
            stop = token in self._stops
            outputs.append(Output(self._spec.key, token, score, "stop" if stop else None))
            if stop:
                self.done = self._ended = True
                break
        return outputs

    def last(self) -> Output | None:
        if self._ended:
            return None
        if self._finish is None:
            raise cut_off()
        reason = "length" if self._finish == "length" else "stop"
        return Output(self._spec.key, finish=reason, cached=min(self._cached, len(self._spec.prompt)))


class CompletionsReader(StoppingReader):
    """Reads the stream of `CompletionsWire`."""

    def read(self, data: bytes) -> list[Output]:
        if data == DONE:
            self.done = True
            return []
        reply = decoded(_REPLY, data)
        self.begun = True
        if reply.usage is not None and reply.usage.prompt_tokens_details is not None:
            self._cached = reply.usage.prompt_tokens_details.cached_tokens or 0
        if not reply.choices:
            return []
        choice = reply.choices[0]
        self._finish = choice.finish_reason or self._finish
        if choice.token_ids is None and choice.finish_reason is None:
            raise EngineError("The upstream names no token ids in its stream: leave --tokenizer out.")
        ids = choice.token_ids or []
        return self.tokens(ids, _scores(ids, choice.logprobs))


_REPLY = msgspec.json.Decoder(TokensReply)


def _scores(ids: list[int], told: NamedScores | None) -> list[RawLogprob | None]:
    if told is None:
        return [None] * len(ids)
    tops = told.top_logprobs or [None] * len(ids)
    found: list[RawLogprob | None] = []
    for at in range(len(ids)):
        named = (tops[at] if at < len(tops) else None) or {}
        ranked = sorted(named.items(), key=lambda each: -each[1])
        top = [(int(name.rpartition(":")[2]), value) for name, value in ranked if name.rpartition(":")[2].isdigit()]
        found.append(RawLogprob(told.token_logprobs[at] if at < len(told.token_logprobs) else None, top))
    return found
