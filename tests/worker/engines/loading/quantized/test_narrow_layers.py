"""Weights of eight and four bits on CPUs: they are what they say, run alone and in a batch, and go on exactly."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from millstream.worker.engines.model_files.sample_models import sample_chat_folder
from millstream.worker.engines.transformers.loading.quantization import narrow_layers
from millstream.worker.engines.transformers.loading.quantization.narrow_layers import (
    EightBitLinear,
    FourBitLinear,
    NarrowLinear,
    NarrowWeights,
    is_narrow,
    narrow_linears,
)
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.loading.test_loading import refusal
from tests.worker.engines.rig import Rig

PROMPTS = [[7, 8, 9, 10, 11], [30, 31, 32], list(range(40, 80)), [99]]
KINDS: tuple[NarrowWeights, ...] = ("int8", "int4")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> NarrowWeights:
    return request.param


@pytest.fixture(scope="module")
def rig(tiny_settings: EngineSettings, kind: NarrowWeights) -> Iterator[Rig]:
    rig = Rig(replace(tiny_settings, quantization=kind))
    yield rig
    rig.close()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("layer", "shared", "largest"), [(EightBitLinear, 0, 254), (FourBitLinear, 32, 15)])
def test_a_layer_computes_with_weights_that_are_at_most_half_a_step_away(
    layer: type[NarrowLinear], shared: int, largest: int, bias: bool
) -> None:
    torch.manual_seed(3)
    plain = nn.Linear(96, 80, bias=bias)
    narrow = layer(plain)
    with torch.no_grad():
        weights = narrow(torch.eye(96)) - (plain.bias if bias else 0)
        groups = plain.weight.unflatten(1, (-1, shared)) if shared else plain.weight.unsqueeze(1)
        span = groups.amax(2) - groups.amin(2) if shared else 2 * groups.abs().amax(2)
        steps = (span / largest).repeat_interleave(groups.shape[2], 1)
        rounding = plain.weight.abs() / 128  # the kernel tells its sums in bfloat16
        assert ((weights.T - plain.weight).abs() <= 0.6 * steps + rounding).all()
        x = torch.randn(2, 5, 96)
        assert torch.allclose(narrow(x), plain(x), atol=0.15) and narrow(x).shape == (2, 5, 80)


def test_a_batch_computes_what_the_layers_compute_one_after_the_other(
    rig: Rig, kind: NarrowWeights, tiny_folder: Path
) -> None:
    own = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    narrow_linears(own, kind)
    layers = [layer for layer in own.modules() if isinstance(layer, NarrowLinear)]
    assert len(layers) == 15 and isinstance(own.lm_head, EightBitLinear)
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = own.generate(torch.tensor([prompt]), max_new_tokens=16, min_new_tokens=16, do_sample=False)
            assert rig.one(prompt) == ids[0, len(prompt) :].tolist()


def test_a_row_does_not_depend_on_its_neighbours(rig: Rig) -> None:
    alone = [rig.one(prompt, seed=5, temperature=0.8) for prompt in PROMPTS]
    assert rig.tokens(*(rig.spec(prompt, seed=5, temperature=0.8) for prompt in PROMPTS)) == alone
    assert rig.card.exactness["chat"] == "exact"


def test_another_worker_goes_on_exactly_from_every_cut(
    rig: Rig, tiny_settings: EngineSettings, kind: NarrowWeights
) -> None:
    whole = rig.one(PROMPTS[0], seed=3, temperature=0.9)
    other = Rig(replace(tiny_settings, quantization=kind))
    try:
        assert other.card.fingerprint == rig.card.fingerprint
        for cut in range(1, 16):
            assert other.one(PROMPTS[0], seed=3, temperature=0.9, generated=whole[:cut]) == whole
    finally:
        other.close()


def test_a_quantised_model_is_another_model(rig: Rig, tiny: Rig, kind: NarrowWeights) -> None:
    assert rig.card.fingerprint != tiny.card.fingerprint
    assert rig.card.details["quantization"] == kind
    assert "quantization" not in tiny.card.details


def test_one_at_a_time_and_beside_adapters_too(tiny_settings: EngineSettings, kind: NarrowWeights) -> None:
    for settings in (replace(tiny_settings, batching="off"), replace(tiny_settings, adapters=True)):
        rig = Rig(replace(settings, quantization=kind))
        try:
            assert len(rig.one(PROMPTS[0], 8)) == 8
        finally:
            rig.close()


def test_the_samples_own_weights_of_four_bits_are_kept(tmp_path: Path) -> None:
    """The sample's file has blocks of 32 with a scale and a least value each, as a layer of four bits has."""
    folder = sample_chat_folder(ModelSource().cache_dir, lambda *_: None)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain = model.model.layers[0].mlp.down_proj
    weights = FourBitLinear(plain)(torch.eye(plain.in_features)).T
    groups = plain.weight.detach().unflatten(1, (-1, 32))
    steps = ((groups.amax(2) - groups.amin(2)) / 15).repeat_interleave(32, 1)
    assert ((weights - plain.weight).abs() < 0.2 * steps).all()  # new blocks would be up to 0.5 away


def test_layers_of_other_widths_stay_as_they_are() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd, self.even = nn.Linear(40, 16), nn.Linear(64, 16)

        def get_output_embeddings(self) -> None:
            return None

    two = Two()
    assert not is_narrow(two)
    narrow_linears(two, "int4")  # pyright: ignore[reportArgumentType]
    assert type(two.odd) is nn.Linear and is_narrow(two.even)


def test_there_has_to_be_something_to_quantise_and_a_kernel(
    tiny_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no layer in float32 or bfloat16" in refusal(replace(tiny_settings, quantization="int8", dtype="float16"))
    monkeypatch.setattr(narrow_layers, "_runs", lambda kind: False)
    assert "lacks: leave it out" in refusal(replace(tiny_settings, quantization="int4"))
