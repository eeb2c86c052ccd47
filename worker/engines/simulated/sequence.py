"""One sequence of the simulated engine: which token comes next, decided by its position and its past alone."""

from dataclasses import dataclass
from typing import Literal

from millstream.common.errors import BadGrammar, MillstreamError, from_failure
from millstream.common.hashchain import chain_next, chain_start
from millstream.common.job import Guide
from millstream.worker.engines.base import Output, RawLogprob, SequenceSpec
from millstream.worker.engines.grammar.schema_instance import instance_text
from millstream.worker.engines.simulated.script import SimulatedScript, parse_script
from millstream.worker.engines.simulated.tokenizer import EOS, TURN, SimulatedTokenizer

ScriptedFault = Literal["crash", "hang"]


@dataclass(slots=True)
class SimulatedSequence:
    """A sequence and how far it is. `said` are the tokens of a script, None for a hash chain."""

    spec: SequenceSpec
    said: list[int] | None
    end: int  # the position of the end-of-sequence token; beyond `max_tokens` if none comes
    made: int  # tokens so far, earlier leases' included
    previous: int  # the last token, or what the chain's first is to be
    script: SimulatedScript | None = None
    rate: float | None = None
    due: float = 0.0  # event loop time of the next token

    def fault(self) -> ScriptedFault | None:
        """Returns the fault that is to happen now instead of a token."""
        script = self.script
        if script is None or self.made != self._moment(script):
            return None
        crash = script.crash is True or (script.crash == "once" and not self.spec.generated)
        return "crash" if crash else "hang" if script.hang else None

    def advance(self) -> Output:
        """Returns the next token, or the failure the script wants here."""
        error = self._error()
        if error is not None:
            return Output(self.spec.key, error=error)
        prompt_logprobs = self._prompt_logprobs()
        if self.spec.max_tokens == 0:
            return Output(self.spec.key, finish="length", prompt_logprobs=prompt_logprobs)
        token = self._next_token()
        self.made += 1
        self.previous = token
        return Output(self.spec.key, token, self._logprob(token), self._finish(token), None, 0, prompt_logprobs)

    def _next_token(self) -> int:
        if self.made >= self.end:
            return EOS
        if self.said is not None:
            return self.said[self.made]
        return self.previous if self.made == 0 else chain_next(self.previous)

    def _finish(self, token: int) -> Literal["stop", "length"] | None:
        if self.script is not None and self.script.finish == "length" and self.made >= self.end:
            return "length"
        if self.made > self.end or token in self.spec.sampling.stop_token_ids:
            return "stop"
        return "length" if self.made >= self.spec.max_tokens else None

    def _moment(self, script: SimulatedScript) -> int:
        """Returns how many tokens come before the script's error, crash or hang."""
        return self.end if script.after is None else script.after

    def _error(self) -> MillstreamError | None:
        script = self.script
        if script is None or script.error is None or self.made != self._moment(script):
            return None
        return from_failure(script.error.failure())

    def _logprob(self, token: int) -> RawLogprob | None:
        wanted = self.spec.sampling.logprobs
        return None if wanted is None else pretended_logprob(token, wanted)

    def _prompt_logprobs(self) -> list[RawLogprob] | None:
        wanted = self.spec.prompt_logprobs
        if wanted is None or self.made > len(self.spec.generated):
            return None
        return [RawLogprob(None, []), *(pretended_logprob(token, wanted) for token in self.spec.prompt[1:])]


def pretended_logprob(token: int, count: int) -> RawLogprob:
    """Returns a made-up probability that depends on the token alone, with `count` alternatives, the token itself
    first."""
    chosen = -(1 + token % 16) / 16
    return RawLogprob(chosen, [(token ^ rank, chosen - rank) for rank in range(count)])


def sequence_for(spec: SequenceSpec, tokenizer: SimulatedTokenizer, default_length: int) -> SimulatedSequence:
    """Returns the sequence of a job: its script, else what its guide allows, else a hash chain. Raises `BadRequest` for
    an unreadable script, `BadGrammar` for a guide only a real engine can follow."""
    script = script_of(spec.prompt, tokenizer)
    previous = spec.generated[-1] if spec.generated else chain_start(spec.prompt, spec.sampling.seed)
    if script is None and spec.guide is None:
        return SimulatedSequence(spec, None, _chain_end(spec, default_length), len(spec.generated), previous)
    words = script.spoken() if script is not None else _guided(spec.guide)
    said = tokenizer.encode(words, special=False)
    rate = None if script is None else script.rate
    return SimulatedSequence(spec, said, len(said), len(spec.generated), previous, script, rate)


def script_of(prompt: list[int], tokenizer: SimulatedTokenizer) -> SimulatedScript | None:
    """Returns the script in the last user message of a chat, or in a plain prompt as a whole."""
    text = tokenizer.decode(prompt, skip_special=False)
    if "script:" not in text:
        return None
    turns = [turn.partition("\n") for turn in text.split(TURN)]
    if len(turns) == 1:
        return parse_script(text, 0)
    roles = [role for role, _, _ in turns]
    if "user" not in roles:
        return None
    last = len(roles) - 1 - roles[::-1].index("user")
    answered = roles[last:].count("assistant") - 1  # the last one is the answer to come
    return parse_script(turns[last][2].removesuffix("\n").removesuffix("<|im_end|>"), max(0, answered))


def _chain_end(spec: SequenceSpec, default_length: int) -> int:
    """Returns the position of a chain's end-of-sequence token: none if the client said how long it wants it."""
    if spec.sampling.max_tokens is not None or spec.sampling.ignore_eos:
        return spec.max_tokens + 1
    return max(default_length, spec.sampling.min_tokens)


def _guided(guide: Guide | None) -> str:
    """Returns a text the guide allows."""
    try:
        words = instance_text(guide) if guide is not None else None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise BadGrammar(f"The simulated engine cannot read it: {error!r}.", param="response_format") from error
    if words is None:
        raise BadGrammar(
            "The simulated engine follows json_object, json_schema and choice guides; for a regex or a grammar use "
            "another engine or a script.",
            param="response_format",
        )
    return words
