"""Our sampling as a logits processor of vLLM's second model runner (GPUs): tokens stay on the device there."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUntypedBaseClass=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# (vLLM is installed in few environments)

from dataclasses import dataclass
from typing import Any

import torch
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor

from millstream.worker.engines.sampling.sequence import Sequence
from millstream.worker.engines.vllm.hosted.guides import HostedGuides
from millstream.worker.engines.vllm.hosted.job import KEY, HostedJob, begun, unpacked
from millstream.worker.engines.vllm.hosted.sampler import RowSampler, go_on


@dataclass(slots=True)
class _Slot:
    """A job in one of the runner's slots; `seen` of its tokens, prompt included, are in the sequence."""

    job: HostedJob
    seen: int
    sequence: Sequence | None = None


class SecondRunnerSampling(LogitsProcessor):
    """Implements vLLM's interface: rows are put anew at each step, jobs keep their slot."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        self.guides = HostedGuides()
        self._sampler = RowSampler()
        self._states = req_states
        self._slots: dict[int, _Slot] = {}

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Takes a job into a slot, or forgets the one that had it before; whether it is ours."""
        self._slots.pop(req_idx, None)
        data = (sampling_params.extra_args or {}).get(KEY)
        if data is None:
            return False
        job = unpacked(data)
        self._slots[req_idx] = _Slot(job, job.prompt + len(job.spec.generated))
        return True

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """Without drafted tokens each job of the batch has one row, in the order of `idx_mapping`."""
        rows: list[int] = []
        sequences: list[Sequence] = []
        lengths = ctx.seq_lens_upper_bound_np
        for row, slot in enumerate(ctx.idx_mapping_np.tolist()):
            held = self._slots.get(slot)
            if held is not None and int(lengths[row]) >= held.seen:  # else a part of its prompt is still to be read
                rows.append(row)
                sequences.append(self._standing(slot, held, int(lengths[row])))
        self._sampler.choose(logits, rows, sequences)
        return logits

    def _standing(self, slot: int, held: _Slot, length: int) -> Sequence:
        """Returns the sequence as it stands after `length` tokens. The device is asked only where they matter."""
        if held.sequence is None:
            penalised = held.job.spec.sampling.repetition_penalty != 1.0
            prompt = self._tokens(slot, 0, held.job.prompt) if penalised else []
            held.sequence = begun(held.job, prompt, self.guides.matcher)
        sequence = held.sequence
        if sequence.follows_its_tokens:
            go_on(sequence, self._tokens(slot, held.seen, length))
            held.seen = length
        else:
            sequence.ahead = length - held.seen
        return sequence

    def _tokens(self, slot: int, start: int, end: int) -> list[int]:
        return self._states.all_token_ids.gpu[slot, start:end].tolist() if end > start else []
