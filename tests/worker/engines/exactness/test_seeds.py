"""Noise is a function of (seed, position): the same tokens alone, in any batch, and after any continuation."""

import pytest
import torch

from millstream.common.job import Guide
from millstream.worker.engines.base import SequenceSpec
from millstream.worker.engines.sampling.seeded_noise import SeededNoise, noise_key
from tests.worker.engines.rig import Rig

PROMPT = [72, 101, 108, 108, 111]
VARIANTS: list[dict[str, object]] = [
    {},
    {"top_p": 0.8},
    {"top_k": 12, "min_p": 0.02},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.2},
    {"logit_bias": {"40": 5.0}, "min_tokens": 10},
]


def warm(rig: Rig, seed: int, **more: object) -> SequenceSpec:
    return rig.spec(PROMPT, 40, temperature=1.0, seed=seed, **more)


def test_alone_equals_in_a_batch(tiny: Rig) -> None:
    together = tiny.tokens(*(warm(tiny, i, **variant) for i, variant in enumerate(VARIANTS)), warm(tiny, 99))
    alone = [tiny.tokens(warm(tiny, i, **variant))[0] for i, variant in enumerate(VARIANTS)]
    assert together[: len(VARIANTS)] == alone


@pytest.mark.parametrize("k", [1, 10, 39])
def test_continued_from_the_first_k_tokens(tiny: Rig, k: int) -> None:
    whole = [tiny.tokens(warm(tiny, i, **variant))[0] for i, variant in enumerate(VARIANTS)]
    rest = tiny.tokens(*(warm(tiny, i, generated=whole[i][:k], **variant) for i, variant in enumerate(VARIANTS)))
    assert rest == whole


def test_a_guided_sequence_continues_in_its_grammar(tiny: Rig) -> None:
    guide = Guide("regex", "[a-f]{30}")
    whole = tiny.tokens(warm(tiny, 5, guide=guide))[0]
    assert tiny.tokens(warm(tiny, 5, guide=guide, generated=whole[:11]))[0] == whole


def test_seeds_matter(tiny: Rig) -> None:
    drawn = {tuple(tokens) for tokens in tiny.tokens(*(warm(tiny, seed) for seed in range(6)))}
    assert len(drawn) == 6


def test_chosen_tokens_have_the_noise_of_the_whole_row() -> None:
    noise = SeededNoise(500, torch.device("cpu"))
    keys = [noise_key(3, 0), noise_key(3, 1)]
    picked = torch.tensor([[4, 77, 499], [0, 1, 2]])
    assert torch.equal(noise.rows(keys).gather(1, picked), noise.at(keys, picked))


def test_draws_follow_the_distribution() -> None:
    """In 20,000 positions, each token's share is within five standard deviations of its probability."""
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.09, 0.01])
    noise = SeededNoise(5, torch.device("cpu")).rows([noise_key(11, position) for position in range(20_000)])
    shares = torch.bincount((probabilities.log() + noise).argmax(-1), minlength=5) / 20_000
    deviation = (probabilities * (1 - probabilities) / 20_000).sqrt()
    assert ((shares - probabilities).abs() < 5 * deviation).all()


def test_neighbouring_seeds_and_positions_are_unrelated() -> None:
    noise = SeededNoise(4096, torch.device("cpu"))
    rows = noise.rows([noise_key(s, p) for s in (0, 1, 2) for p in (0, 1, 2)])
    correlation = torch.corrcoef(rows) - torch.eye(9)
    assert correlation.abs().max() < 0.08  # five standard deviations of 4096 independent samples
