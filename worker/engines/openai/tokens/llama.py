"""llama.cpp's own `/completion`, which takes token ids and gives them back.

It streams a token only once its text is whole: of a character of several tokens it names the last one and how many
there were. The others are found by their bytes.
"""

import json
from typing import Any

import msgspec

from millstream.common.job import Guide
from millstream.worker.engines.base import Output, RawLogprob, SequenceSpec
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.bodies import LLAMA, UpstreamBody, no_form
from millstream.worker.engines.openai.reading import decoded, garbage
from millstream.worker.engines.openai.refusals import refuse
from millstream.worker.engines.openai.settings import Address
from millstream.worker.engines.openai.tokens.vocabulary import UpstreamVocabulary
from millstream.worker.engines.openai.tokens.wires import (
    StoppingReader,
    TokenReader,
    room,
    seed_of,
    stops,
)

NEVER = -1e9  # a bias as good as a ban
USUAL_WINDOW = 4096  # tokens that penalties look back on, where the context length is not known


class LlamaWire:
    """Implements `TokenWire` for llama.cpp."""

    def __init__(self, vocabulary: UpstreamVocabulary) -> None:
        self._vocabulary = vocabulary

    def route(self, address: Address) -> str:
        return f"{address.root}/completion"

    def check(self, spec: SequenceSpec) -> None:
        told = {
            "prompt_logprobs": spec.prompt_logprobs is not None,
            "bad_words": bool(spec.banned),
            "allowed_token_ids": bool(spec.sampling.allowed_token_ids),
            "min_tokens": spec.sampling.min_tokens > 0,
        }
        refuse(told, LLAMA)
        if spec.guide is not None:
            _guide(spec.guide)

    def body(self, spec: SequenceSpec, abilities: Abilities) -> UpstreamBody:
        s = spec.sampling
        bias = [[int(token), value] for token, value in s.logit_bias.items()]
        if s.ignore_eos:
            bias += [[token, NEVER] for token in sorted(self._vocabulary.tokenizer.eos_ids)]
        body: UpstreamBody = {
            "prompt": [*spec.prompt, *spec.generated],
            "stream": True,
            "return_tokens": True,
            "cache_prompt": True,
            "n_predict": room(spec),
            "temperature": s.temperature,
            "top_p": s.top_p,
            "top_k": s.top_k,
            "min_p": s.min_p,
            "repeat_penalty": s.repetition_penalty,
            "presence_penalty": s.presence_penalty,
            "frequency_penalty": s.frequency_penalty,
            "repeat_last_n": abilities.context_length or USUAL_WINDOW,
            "ignore_eos": s.ignore_eos,
            "seed": seed_of(spec),
            "logit_bias": bias,
        }
        if s.logprobs is not None:
            body["n_probs"] = max(1, s.logprobs)
        return body | (_guide(spec.guide) if spec.guide is not None else {})

    def reader(self, spec: SequenceSpec) -> TokenReader:
        return LlamaReader(spec, stops(spec, self._vocabulary), self._vocabulary)


def _guide(guide: Guide) -> UpstreamBody:
    """Returns the field that asks for an answer of this form. Raises `BadGrammar` where there is none."""
    match guide.kind:
        case "json_object":
            return {"json_schema": {"type": "object"}}
        case "json_schema":
            return {"json_schema": json.loads(guide.value)}
        case _:
            raise no_form(LLAMA, guide)


class LlamaLikely(msgspec.Struct):
    """A token and its log probability."""

    id: int
    logprob: float | None = None


class LlamaScore(LlamaLikely):
    """A chosen token with what could have been."""

    top_logprobs: list[LlamaLikely] = []


class LlamaReply(msgspec.Struct):
    """One event of a stream."""

    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    tokens_predicted: int | None = None
    stop_type: str = ""
    completion_probabilities: list[LlamaScore] = []
    error: Any = None


class LlamaReader(StoppingReader):
    """Reads the stream of `LlamaWire`."""

    def __init__(self, spec: SequenceSpec, stops: frozenset[int], vocabulary: UpstreamVocabulary) -> None:
        super().__init__(spec, stops)
        self._vocabulary = vocabulary
        self._told = 0  # tokens in all

    def read(self, data: bytes) -> list[Output]:
        reply = decoded(_REPLY, data)
        self.begun = True
        if reply.stop:
            self._finish, self.done = "length" if reply.stop_type == "limit" else "stop", True
        ids = reply.tokens
        if not ids:
            return []
        missing = (reply.tokens_predicted or 0) - self._told - len(ids)
        self._told += len(ids) + max(0, missing)
        ids = [*self._missing(reply.content, ids[0], missing), *ids]
        scores: list[RawLogprob | None] = [None] * len(ids)
        if self._spec.sampling.logprobs is not None:
            known = [_score(each) for each in reply.completion_probabilities]
            scores = [*[RawLogprob(None, [])] * (len(ids) - len(known)), *known]
        return self.tokens(ids, scores)

    def _missing(self, content: str, first: int, count: int) -> list[int]:
        """Returns the tokens before `first` that were not named."""
        if count <= 0:
            return []
        spoken = content.encode()
        own = self._vocabulary.tokenizer.token_bytes(first)
        try:
            return self._vocabulary.split(spoken.removesuffix(own), count)
        except ValueError as error:
            raise garbage(content) from error


_REPLY = msgspec.json.Decoder(LlamaReply)


def _score(told: LlamaScore) -> RawLogprob:
    return RawLogprob(told.logprob, [(each.id, each.logprob or 0.0) for each in told.top_logprobs])
