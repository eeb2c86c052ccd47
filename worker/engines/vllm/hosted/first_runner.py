"""Our sampling as a logits processor of vLLM's first model runner (CPUs, and what the second one cannot do yet)."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUntypedBaseClass=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# (vLLM is installed in few environments)

from dataclasses import dataclass
from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from millstream.worker.engines.sampling.sequence import Sequence
from millstream.worker.engines.vllm.hosted.guides import HostedGuides
from millstream.worker.engines.vllm.hosted.job import KEY, begun, unpacked
from millstream.worker.engines.vllm.hosted.sampler import RowSampler, go_on


@dataclass(slots=True)
class _Row:
    """A job in the batch. `made` is vLLM's own growing list of the tokens it made."""

    sequence: Sequence
    made: list[int]
    seen: int = 0

    def catch_up(self) -> None:
        known = len(self.made)
        while known > self.seen and self.made[known - 1] < 0:
            known -= 1
        go_on(self.sequence, self.made[self.seen : known])
        self.sequence.ahead = len(self.made) - known
        self.seen = known


class FirstRunnerSampling(LogitsProcessor):
    """Implements vLLM's interface: rows are places in its persistent batch."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.guides = HostedGuides()
        self._sampler = RowSampler()
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        process_dict_updates(self._rows, batch_update, self._begin)

    def _begin(self, params: Any, prompt: list[int] | None, made: list[int]) -> _Row | None:
        data = (params.extra_args or {}).get(KEY)
        if data is None:
            return None
        job = unpacked(data)
        return _Row(begun(job, (prompt or [])[: job.prompt], self.guides.matcher), made)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        rows = sorted(row for row in self._rows if row < logits.shape[0])
        for row in rows:
            self._rows[row].catch_up()
        self._sampler.choose(logits, rows, [self._rows[row].sequence for row in rows])
        return logits
