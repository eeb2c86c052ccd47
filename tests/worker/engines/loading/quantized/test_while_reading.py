"""Weights quantised by torchao while they are read: it runs alone and in a batch, and goes on exactly."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from millstream.worker.engines.transformers.loading.placement import quantized
from millstream.worker.engines.transformers.settings import EngineSettings, Quantization
from tests.worker.engines.loading.test_loading import refusal
from tests.worker.engines.rig import Rig

PROMPTS = [[7, 8, 9, 10, 11], [30, 31, 32], list(range(40, 80)), [99]]
KINDS: tuple[Quantization, ...] = ("int8", "int4")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Quantization:
    pytest.importorskip("torchao", reason="the extra torchao is not installed")
    return request.param


@pytest.fixture(scope="module")
def rig(tiny_settings: EngineSettings, kind: Quantization) -> Iterator[Rig]:
    rig = Rig(replace(tiny_settings, quantization=kind))
    yield rig
    rig.close()


def test_it_computes_what_the_library_computes_with_the_same_weights(
    rig: Rig, kind: Quantization, tiny_folder: Path
) -> None:
    own = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, quantization_config=quantized(kind))
    layers = [layer for layer in own.modules() if isinstance(layer, nn.Linear)]
    assert sum(type(layer.weight) is not nn.Parameter for layer in layers) == 14  # seven in each of two blocks
    for prompt in PROMPTS:
        ids = own.generate(torch.tensor([prompt]), max_new_tokens=16, min_new_tokens=16, do_sample=False)
        assert rig.one(prompt) == ids[0, len(prompt) :].tolist()


def test_a_row_does_not_depend_on_its_neighbours(rig: Rig) -> None:
    alone = [rig.one(prompt, seed=5, temperature=0.8) for prompt in PROMPTS]
    assert rig.tokens(*(rig.spec(prompt, seed=5, temperature=0.8) for prompt in PROMPTS)) == alone
    assert rig.card.exactness["chat"] == "exact"


def test_another_worker_goes_on_exactly_from_every_cut(
    rig: Rig, tiny_settings: EngineSettings, kind: Quantization
) -> None:
    whole = rig.one(PROMPTS[0], seed=3, temperature=0.9)
    other = Rig(replace(tiny_settings, quantization=kind))
    try:
        assert other.card.fingerprint == rig.card.fingerprint
        for cut in range(1, 16):
            assert other.one(PROMPTS[0], seed=3, temperature=0.9, generated=whole[:cut]) == whole
    finally:
        other.close()


def test_a_quantised_model_is_another_model(rig: Rig, tiny: Rig, kind: Quantization) -> None:
    assert rig.card.fingerprint != tiny.card.fingerprint
    assert rig.card.details["quantization"] == kind
    assert "quantization" not in tiny.card.details


@pytest.mark.parametrize(("asked", "extra"), [("int8", "torchao"), ("int4", "torchao"), ("8bit", "quantization")])
def test_a_missing_package_is_named_with_its_extra(
    tiny_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch, asked: Quantization, extra: str
) -> None:
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.placement.find_spec", lambda name: None)
    assert f"pip install 'millstream[{extra}]'" in refusal(replace(tiny_settings, quantization=asked))


@pytest.mark.parametrize("asked", ["8bit", "4bit"])
def test_bitsandbytes_runs_on_a_cpu_and_is_announced_as_less_than_exact(
    wide: EngineSettings, asked: Quantization
) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra quantization is not installed")
    own = LlamaForCausalLM.from_pretrained(
        wide.source.model, dtype=torch.float32, device_map={"": "cpu"}, quantization_config=quantized(asked)
    )
    rig = Rig(replace(wide, quantization=asked))
    try:
        ids = own.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=8, min_new_tokens=8, do_sample=False)
        assert rig.one(PROMPTS[0], 8) == ids[0, len(PROMPTS[0]) :].tolist()
        assert rig.card.exactness["chat"] == "tokens"
    finally:
        rig.close()
