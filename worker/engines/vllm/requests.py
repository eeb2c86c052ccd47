"""Says what vLLM is asked for a job, and reads its answers.

Greedy jobs without further wishes are vLLM's own business. For all others its temperature is 0 and our sampler, inside
its batch, leaves only the chosen token possible: then a continuation is exact, whatever made the tokens before.
"""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
# (vLLM is installed in few environments)

from collections.abc import Iterator, Mapping
from typing import Any

from millstream.worker.engines.base import Output, RawLogprob, SequenceSpec
from millstream.worker.engines.sampling.sequence import stops_of
from millstream.worker.engines.vllm.hosted.job import KEY, packed

Told = Mapping[int, Any]  # of a place: vLLM's `Logprob` by token


def own_sampling(spec: SequenceSpec) -> bool:
    """Tells whether a job needs more than the arg-max of the model's own logits."""
    s = spec.sampling
    penalised = (s.repetition_penalty, s.presence_penalty, s.frequency_penalty) != (1.0, 0.0, 0.0)
    edited = bool(s.logit_bias or s.allowed_token_ids or spec.banned or spec.guide)
    return s.temperature > 0 or penalised or edited or s.min_tokens > 0


def vllm_prompt(spec: SequenceSpec) -> Any:
    """Returns the prompt and the tokens of earlier leases, as vLLM wants it."""
    from vllm.inputs.engine import tokens_input

    return tokens_input([*spec.prompt, *spec.generated], cache_salt=spec.cache_salt or None)


def vllm_params(spec: SequenceSpec, ends: frozenset[int]) -> Any:
    """Returns the `SamplingParams`. Ends are told as stop tokens, so that one rule holds for all engines."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=max(1, spec.max_tokens - len(spec.generated)),
        ignore_eos=True,
        stop_token_ids=sorted(stops_of(spec, ends, guided=spec.guide is not None)),
        logprobs=spec.sampling.logprobs,
        prompt_logprobs=None if spec.generated else spec.prompt_logprobs,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args={KEY: packed(spec, ends)} if own_sampling(spec) else None,
        skip_clone=True,  # it is ours alone
    )


class OutputReader:
    """Turns what vLLM tells of one job into outputs."""

    def __init__(self, spec: SequenceSpec) -> None:
        self._spec = spec
        self._prompt: list[RawLogprob] | None = None
        self._begun = False

    def outputs(self, told: Any) -> Iterator[Output]:
        """Yields an output for each token in a `RequestOutput`."""
        if told.prompt_logprobs:
            self._prompt = [
                self._ranked(token, at) for token, at in zip(self._spec.prompt, told.prompt_logprobs, strict=False)
            ]
        made = told.outputs[0]
        if self._spec.max_tokens == 0:  # vLLM makes at least one: it was only asked about the prompt
            if told.finished:
                yield Output(self._spec.key, finish="length", prompt_logprobs=self._prompt)
            return
        reason = made.finish_reason if told.finished and made.finish_reason in ("stop", "length") else None
        if reason and not made.token_ids:
            yield Output(self._spec.key, finish=reason)
        for place, token in enumerate(made.token_ids):
            finish = reason if place == len(made.token_ids) - 1 else None
            yield self._output(token, finish, made.logprobs[place] if made.logprobs else None, told.num_cached_tokens)

    def _output(self, token: int, finish: Any, ranks: Told | None, cached: int | None) -> Output:
        first, self._begun = not self._begun, True
        prompt, self._prompt = self._prompt, None
        return Output(
            self._spec.key,
            token,
            None if ranks is None else self._ranked(token, ranks, self._spec.sampling.logprobs),
            finish,
            cached=min(cached or 0, len(self._spec.prompt)) if first else 0,
            prompt_logprobs=prompt,
        )

    def _ranked(self, token: int, ranks: Told | None, wanted: int | None = None) -> RawLogprob:
        if not ranks or token not in ranks:
            return RawLogprob(None, [])
        most = self._spec.prompt_logprobs if wanted is None else wanted
        best = sorted(ranks.items(), key=lambda each: each[1].rank)[: most or 0]
        return RawLogprob(ranks[token].logprob, [(id, at.logprob) for id, at in best])
