"""A job on its way into vLLM's process: packed into the parameters of a request, unpacked inside its batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from millstream.common.job import Guide
from millstream.worker.engines.base import SequenceKey, SequenceSpec
from millstream.worker.engines.grammar.guides import Matcher
from millstream.worker.engines.sampling.sequence import Sequence as RunningSequence
from millstream.worker.engines.sampling.sequence import begin

KEY = "millstream"  # of the request's extra arguments
MatcherOf = Callable[[Guide, Sequence[int]], Matcher]


@dataclass(frozen=True, slots=True)
class HostedJob:
    """A job without its prompt, which vLLM has; `ends` are the model's own ends of a sequence."""

    spec: SequenceSpec
    prompt: int  # tokens
    ends: list[int]


def packed(spec: SequenceSpec, ends: frozenset[int]) -> bytes:
    """Returns bytes: vLLM sends nothing else unchanged between its processes."""
    plain = msgspec.structs.replace(spec.sampling, logprobs=None)  # vLLM tells them
    alone = replace(spec, key=SequenceKey(""), prompt=[], sampling=plain, cache_salt="", prompt_logprobs=None)
    return msgspec.msgpack.encode(HostedJob(alone, len(spec.prompt), sorted(ends)))


def unpacked(data: bytes) -> HostedJob:
    """Returns what `packed` was given."""
    return msgspec.msgpack.decode(data, type=HostedJob)


def begun(job: HostedJob, prompt: list[int], matcher_of: MatcherOf) -> RunningSequence:
    """Returns the job as its first step in this batch finds it. `prompt`: its tokens, needed for the repetition
    penalty alone."""
    spec = replace(job.spec, prompt=prompt)
    matcher = None if spec.guide is None else matcher_of(spec.guide, spec.generated)
    return begin(spec, frozenset(job.ends), matcher)
