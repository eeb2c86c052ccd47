"""The beginning of a job, before its first step: render the prompt, and take up where an earlier lease stopped.

Everything here may take a while (a chat template, a long text, a grammar), so it runs in a thread and touches nothing
shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.chunk import Chunk, FinishReason, Start
from common.job import JobRequest
from worker.engines.base import Engine, ModelCard, SequenceKey, SequenceSpec, Tokenizer
from worker.prompt import prompt_ids, room_for
from worker.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is ready to run. `over`: the tokens of earlier leases were the whole answer already."""

    spec: SequenceSpec
    transcript: Transcript
    start: Start
    over: FinishReason | None


def begin_sequence(
    engine: Engine, card: ModelCard, request: JobRequest, key: SequenceKey, earlier: Sequence[int]
) -> Beginning:
    """Raises `BadRequest` (empty or too long a prompt, a template that refuses it)."""
    tokenizer = engine.tokenizer
    ids = prompt_ids(tokenizer, request)
    room = room_for(request, len(ids), card.context_length)
    transcript = Transcript(tokenizer, request, ids)
    transcript.refeed(earlier)
    spec = SequenceSpec(
        key=key,
        prompt=ids,
        sampling=request.sampling,
        max_tokens=room,
        generated=list(earlier),
        guide=request.guide,
        prompt_logprobs=request.prompt_logprobs,
    )
    echo = tokenizer.decode(ids) if request.echo else ""
    start = Start(prompt_tokens=len(ids), fingerprint=card.fingerprint, echo=echo)
    return Beginning(spec, transcript, start, _over(transcript, spec, tokenizer))


def _over(transcript: Transcript, spec: SequenceSpec, tokenizer: Tokenizer) -> FinishReason | None:
    """A worker may die between the last token and the last chunk: then there is nothing left to compute."""
    last = spec.generated[-1] if spec.generated else None
    sampling = spec.sampling
    at_end = last in sampling.stop_token_ids or (last in tokenizer.eos_ids and not sampling.ignore_eos)
    if transcript.stopped or at_end:
        return "stop"
    return "length" if spec.generated and len(spec.generated) >= spec.max_tokens else None


def earlier_tokens(chunks: Sequence[Chunk]) -> list[int]:
    """The completion tokens that earlier leases logged."""
    return [token for chunk in chunks for token in chunk.ids]
