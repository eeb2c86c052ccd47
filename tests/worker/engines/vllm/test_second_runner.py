"""The interface of vLLM's second model runner, which itself needs a GPU: its tensors stand here on the CPU."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from millstream.common.job import Sampling
from millstream.worker.engines.base import SequenceKey, SequenceSpec
from millstream.worker.engines.sampling.sampler import Sampler
from millstream.worker.engines.sampling.sequence import begin
from millstream.worker.engines.vllm.hosted.job import KEY, packed

pytestmark = pytest.mark.vllm
SIZE, LENGTH = 40, 32
EOS = frozenset({2})
PENALISED = Sampling(temperature=0.8, seed=3, repetition_penalty=1.4, frequency_penalty=0.6)
SEEDED = Sampling(temperature=1.0, seed=9)


class SlotRig:
    """Slots with tokens on the device, and steps over some of them in any order."""

    def __init__(self) -> None:
        from millstream.worker.engines.vllm.hosted.second_runner import SecondRunnerSampling

        self.tokens = torch.zeros((4, LENGTH), dtype=torch.int32)
        self.lengths = [0] * 4
        self.sampling = SecondRunnerSampling(None, SimpleNamespace(all_token_ids=SimpleNamespace(gpu=self.tokens)))

    def add(self, slot: int, job: SequenceSpec, *, ours: bool = True) -> None:
        made = [*job.prompt, *job.generated]
        self.tokens[slot, : len(made)] = torch.tensor(made)
        self.lengths[slot] = len(made)
        extra: dict[str, Any] = {KEY: packed(job, EOS)} if ours else {}
        assert self.sampling.add_request(slot, SimpleNamespace(extra_args=extra)) is ours

    def step(self, slots: list[int], logits: torch.Tensor) -> list[int]:
        lengths = np.array([self.lengths[slot] for slot in slots])
        context = SimpleNamespace(idx_mapping_np=np.array(slots), seq_lens_upper_bound_np=lengths)
        chosen = self.sampling.apply(logits.clone(), context).argmax(-1).tolist()
        for slot, token in zip(slots, chosen, strict=True):
            self.tokens[slot, self.lengths[slot]] = token
            self.lengths[slot] += 1
        return chosen


def job(sampling: Sampling, generated: list[int] | None = None) -> SequenceSpec:
    return SequenceSpec(SequenceKey("job#1"), [5, 6, 7, 5], sampling, 16, generated or [])


def expected(spec: SequenceSpec, steps: list[torch.Tensor]) -> list[int]:
    sampler, sequence = Sampler(SIZE, torch.device("cpu")), begin(spec, EOS, None)
    for logits in steps:
        [token] = sampler.choose(logits.clone().unsqueeze(0), [sequence]).tolist()
        sequence.ahead += 1
        sequence.take(token)
    return sequence.tokens


def test_rows_are_what_our_sampler_chooses_whatever_the_order() -> None:
    torch.manual_seed(2)
    steps = [torch.randn(3, SIZE) * 2 for _ in range(6)]
    runner = SlotRig()
    runner.add(0, job(PENALISED))
    runner.add(1, job(SEEDED))
    runner.add(3, job(Sampling(temperature=0)), ours=False)
    made: dict[int, list[int]] = {0: [], 1: [], 3: []}
    for number, logits in enumerate(steps):
        order = [[0, 1, 3], [3, 1, 0]][number % 2]
        for slot, token in zip(order, runner.step(order, logits[[[0, 1, 3].index(s) for s in order]]), strict=True):
            made[slot].append(token)
    assert made[0] == expected(job(PENALISED), [step[0] for step in steps])
    assert made[1] == expected(job(SEEDED), [step[1] for step in steps])
    assert made[3] == [int(step[2].argmax()) for step in steps]


def test_a_slot_begins_anew_after_a_preemption_and_for_the_next_job() -> None:
    torch.manual_seed(3)
    steps = [torch.randn(SIZE) * 2 for _ in range(6)]
    whole = expected(job(PENALISED), steps)
    runner = SlotRig()
    runner.add(2, job(SEEDED))
    runner.step([2], steps[0].unsqueeze(0))
    runner.add(2, job(PENALISED))
    made = [runner.step([2], logits.unsqueeze(0))[0] for logits in steps[:3]]
    again = runner.tokens[2].clone(), runner.lengths[2]
    runner.add(2, job(PENALISED))  # preempted: its tokens are read again, as they are
    runner.tokens[2], runner.lengths[2] = again
    made += [runner.step([2], logits.unsqueeze(0))[0] for logits in steps[3:]]
    assert made == whole
    runner.add(0, job(PENALISED, whole[:4]))
    assert [runner.step([0], logits.unsqueeze(0))[0] for logits in steps[4:]] == whole[4:]


def test_a_prompt_that_is_still_being_read_is_left_alone() -> None:
    runner = SlotRig()
    runner.add(1, job(SEEDED))
    runner.lengths[1] = 2
    logits = torch.randn(1, SIZE)
    assert runner.step([1], logits) == [int(logits.argmax())]
    assert runner.sampling._slots[1].sequence is None
