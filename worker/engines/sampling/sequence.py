"""One job inside the engine: what was asked, the tokens so far, and when it ends. Knows nothing of the library."""

from dataclasses import dataclass, field
from typing import Literal

from millstream.common.errors import MillstreamError
from millstream.worker.engines.base import Output, RawLogprob, SequenceKey, SequenceSpec
from millstream.worker.engines.grammar.compiling import given_up
from millstream.worker.engines.grammar.guides import Matcher
from millstream.worker.engines.sampling.penalties import Tally


@dataclass(slots=True)
class Sequence:
    """A running job. Made on the event loop, afterwards touched by the generation thread alone."""

    spec: SequenceSpec
    stops: frozenset[int]  # tokens that end it: `stop_token_ids`, and the model's own unless `ignore_eos`
    banned_early: frozenset[int]  # tokens not allowed before `min_tokens`
    matcher: Matcher | None = None
    tokens: list[int] = field(default_factory=list[int])  # completion so far, earlier leases' included
    ahead: int = 0  # tokens that a device has chosen already and that are not in `tokens` yet
    tally: Tally | None = None  # counts for the penalties, only where one is asked for
    cached: int | None = None  # prompt tokens found in the prefix cache, known at the first step
    logprob: RawLogprob | None = None  # of the newest token
    prompt_logprobs: list[RawLogprob] | None = None  # until told
    finish: Literal["stop", "length"] | None = None
    error: MillstreamError | None = None

    @property
    def key(self) -> SequenceKey:
        return self.spec.key

    @property
    def input_ids(self) -> list[int]:
        """Returns what the model reads first: the prompt and what an earlier lease already made."""
        return self.spec.prompt + self.spec.generated

    @property
    def position(self) -> int:
        """The place of the token that is chosen next, in the completion."""
        return len(self.tokens) + self.ahead

    @property
    def follows_its_tokens(self) -> bool:
        """Tells whether a step for it can only be chosen, or told, when the token before is known."""
        edited = self.tally is not None or self.matcher is not None or bool(self.spec.banned)
        return edited or self.spec.sampling.logprobs is not None

    @property
    def forbidden(self) -> frozenset[int]:
        """Returns the tokens that would complete a banned sequence now. Sequences begin in the completion: what the
        prompt says does not count."""
        made = self.tokens
        return frozenset(
            last
            for *before, last in self.spec.banned
            if not before or (len(before) <= len(made) and made[-len(before) :] == before)
        )

    @property
    def over(self) -> bool:
        return self.finish is not None or self.error is not None

    def take(self, token: int) -> None:
        """Add the newest token and decide whether it was the last."""
        self.tokens.append(token)
        self.ahead -= 1
        if self.tally is not None:
            self.tally.add(token)
        ended = token in self.stops
        if self.matcher is not None and not ended:
            self.matcher.consume(token)
        if self.matcher is not None and self.matcher.why:
            self.error = given_up(self.matcher.why, self.spec.guide)
        elif ended:
            self.finish = "stop"
        elif len(self.tokens) >= self.spec.max_tokens:
            self.finish = "length"

    def output(self) -> Output:
        """Returns what the sink is told of the newest token."""
        if self.error is not None:
            return Output(key=self.key, error=self.error)
        told, self.prompt_logprobs = self.prompt_logprobs, None
        first = len(self.tokens) == len(self.spec.generated) + 1
        return Output(
            key=self.key,
            token=self.tokens[-1],
            logprob=self.logprob,
            finish=self.finish,
            cached=(self.cached or 0) if first else 0,
            prompt_logprobs=told,
        )


def begin(spec: SequenceSpec, eos_ids: frozenset[int], matcher: Matcher | None) -> Sequence:
    """Returns a sequence as its first step finds it: counters, penalties and grammar stand after the `generated`
    tokens."""
    stops = stops_of(spec, eos_ids, guided=matcher is not None)
    early = stops | eos_ids if spec.sampling.min_tokens > 0 else frozenset[int]()
    return Sequence(
        spec=spec,
        stops=stops,
        banned_early=early,
        matcher=matcher,
        tokens=list(spec.generated),
        tally=Tally.of(spec),
    )


def stops_of(spec: SequenceSpec, eos_ids: frozenset[int], *, guided: bool) -> frozenset[int]:
    """Returns the tokens that end a sequence. A finished grammar allows nothing but the end, so that must end it."""
    own = frozenset(spec.sampling.stop_token_ids)
    return own if spec.sampling.ignore_eos and not guided else own | eos_ids
