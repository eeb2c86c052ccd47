"""Top-k, top-p and min-p keep exactly what Hugging Face's processors keep."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from millstream.common.job import Sampling
from millstream.worker.engines.base import SequenceKey, SequenceSpec
from millstream.worker.engines.grammar.guides import unpack_bits
from millstream.worker.engines.sampling.sampler import Sampler
from millstream.worker.engines.sampling.sequence import Sequence, begin

LIMITS = [
    {"top_k": 1},
    {"top_k": 40},
    {"top_p": 0.3},
    {"top_p": 0.95},
    {"min_p": 0.05},
    {"top_k": 50, "top_p": 0.9, "min_p": 0.02},
    {"temperature": 0.4, "top_p": 0.7},
    {"temperature": 1.7, "top_p": 0.99},
]


def sequence(seed: int, sampling: dict[str, Any]) -> Sequence:
    parameters = Sampling(seed=seed, **({"temperature": 1.0} | sampling))
    return begin(SequenceSpec(SequenceKey(f"{seed}"), [1], parameters, 10), frozenset(), None)


def kept_by_hugging_face(logits: torch.Tensor, sampling: dict[str, float]) -> set[int]:
    scores = TemperatureLogitsWarper(sampling.get("temperature", 1.0))(None, logits)
    if k := sampling.get("top_k"):
        scores = TopKLogitsWarper(int(k))(None, scores)
    if p := sampling.get("top_p"):
        scores = TopPLogitsWarper(p)(None, scores)
    if m := sampling.get("min_p"):
        scores = MinPLogitsWarper(m)(None, scores)
    return set(torch.isfinite(scores[0]).nonzero().squeeze(1).tolist())


@pytest.mark.parametrize("sampling", LIMITS, ids=str)
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_draws_stay_inside_what_hugging_face_keeps_and_reach_all_of_it(
    sampling: dict[str, float], spread: float, device: str
) -> None:
    """`spread` 0.5 is so flat that the first candidates do not suffice."""
    logits = torch.randn(1, 1500, generator=torch.Generator().manual_seed(3)) * spread
    kept = kept_by_hugging_face(logits, sampling)
    sampler = Sampler(1500, torch.device(device))
    batch = [sequence(seed, sampling) for seed in range(400)]
    drawn = set(sampler.choose(logits.repeat(400, 1).to(device), batch).tolist())
    assert drawn <= kept
    assert len(drawn) >= min(len(kept), 8) * 0.6


@pytest.mark.parametrize("limits", [{}, {"top_p": 0.9}, {"min_p": 0.01, "top_k": 50}], ids=str)
@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 5e-324])
def test_the_coldest_draw_is_the_greedy_choice(temperature: float, limits: dict[str, float], device: str) -> None:
    logits = torch.randn(4, 700, generator=torch.Generator().manual_seed(5)) * 30
    batch = [sequence(seed, {"temperature": temperature} | limits) for seed in range(4)]
    chosen = Sampler(700, torch.device(device)).choose(logits.to(device, copy=True), batch)
    assert chosen.tolist() == logits.argmax(-1).tolist()


def test_rows_do_not_disturb_each_other(device: str) -> None:
    sampler = Sampler(700, torch.device(device))
    logits = (torch.randn(len(LIMITS), 700, generator=torch.Generator().manual_seed(5)) * 3).to(device)
    batch = [sequence(i, limits) for i, limits in enumerate(LIMITS)]
    together = sampler.choose(logits.clone(), batch).tolist()
    alone = [sampler.choose(logits[i : i + 1].clone(), [s]).item() for i, s in enumerate(batch)]
    assert together == alone


def test_a_limited_draw_equals_the_free_one_where_the_limit_takes_nothing(device: str) -> None:
    sampler = Sampler(300, torch.device(device))
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(6)).to(device)
    free = sampler.choose(logits.clone(), [sequence(i, {}) for i in range(50)])
    limited = sampler.choose(logits.clone(), [sequence(i, {"top_k": 300}) for i in range(50)])
    assert torch.equal(free, limited)


@pytest.mark.parametrize("limits", [{}, {"top_k": 40}, {"top_p": 0.9, "min_p": 0.01}], ids=str)
def test_a_seed_draws_the_same_on_every_device(limits: dict[str, float], device: str) -> None:
    """A job that a worker on a CPU began goes on on a GPU. Only a tie within a rounding error could differ."""
    if device == "cpu":
        pytest.skip("needs another device than the CPU")
    logits = torch.randn(500, 1500, generator=torch.Generator().manual_seed(8)) * 2
    batch = [sequence(seed, limits) for seed in range(500)]
    here, there = (Sampler(1500, torch.device(d)).choose(logits.to(d, copy=True), batch) for d in ("cpu", device))
    assert here.tolist() == there.tolist()


def test_bits_are_unpacked_lowest_first(device: str) -> None:
    bits = torch.tensor([[0b1011, -(1 << 31)]], dtype=torch.int32, device=device)
    assert unpack_bits(bits, 64)[0].nonzero().squeeze(1).tolist() == [0, 1, 3, 63]


def test_nothing_but_the_allowed_tokens_is_chosen(device: str) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(5)).to(device)
    limits = {"allowed_token_ids": [4, 9]}
    batch = [sequence(1, limits), sequence(2, {"temperature": 0}), sequence(3, limits | {"temperature": 0})]
    warm, free, cold = Sampler(50, torch.device(device)).choose(logits.clone(), batch).tolist()
    assert warm in (4, 9) and free == logits[1].argmax().item()
    assert cold == (4 if logits[2, 4] > logits[2, 9] else 9)


def test_a_banned_sequence_is_never_completed_also_where_another_worker_goes_on(device: str) -> None:
    greedy = {"temperature": 0}
    logits = torch.zeros(1, 20, device=device)
    logits[0, 3], logits[0, 5] = 9.0, 8.0

    def next_token(banned: list[list[int]], generated: list[int]) -> int:
        one = sequence(1, greedy)
        spec = replace(one.spec, banned=banned, generated=generated)
        assert begin(spec, frozenset(), None).follows_its_tokens == bool(banned)
        return int(Sampler(20, torch.device(device)).choose(logits.clone(), [begin(spec, frozenset(), None)]).item())

    assert next_token([], []) == 3
    assert next_token([[3]], []) == 5
    assert next_token([[7, 3]], []) == 3 and next_token([[7, 3]], [1, 7]) == 5 and next_token([[7, 3]], [7, 1]) == 3
    assert next_token([[1, 7, 3]], [7]) == 3, "what was never begun is not completed"
