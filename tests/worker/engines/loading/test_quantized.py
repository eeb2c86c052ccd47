"""Weights quantised by torchao while they are read: it runs alone and in a batch, and goes on exactly."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from millstream.worker.engines.transformers.loading.placement import quantized
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource, Quantization
from tests.worker.engines.conftest import EOS, byte_tokenizer
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


@pytest.fixture(scope="module")
def wide(tiny_settings: EngineSettings, tmp_path_factory: pytest.TempPathFactory) -> EngineSettings:
    """A Llama whose widths are multiples of the blocks that share a scale."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=260, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, initializer_range=0.3, bos_token_id=None, eos_token_id=EOS, pad_token_id=EOS,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return replace(tiny_settings, source=ModelSource(str(folder)))


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


def test_an_fp8_checkpoint_is_made_into_full_weights_on_a_cpu(wide: EngineSettings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(wide.source.model, tmp_path / "fp8"))
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if "_proj." in name]:
        scale = weights[name].abs().max() / 448  # the largest number of the format
        weights[name.replace(".weight", ".weight_scale_inv")] = scale.view(1, 1)
        weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    told = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": told}))
    whole = LlamaForCausalLM.from_pretrained(wide.source.model)
    for name, weight in whole.named_parameters():
        if (scale := weights.get(name.replace(".weight", ".weight_scale_inv"))) is not None:
            weight.data = weights[name].float() * scale
    rig = Rig(replace(wide, source=ModelSource(str(folder))))
    try:
        ids = whole.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=8, min_new_tokens=8, do_sample=False)
        assert rig.one(PROMPTS[0], 8) == ids[0, len(PROMPTS[0]) :].tolist()
    finally:
        rig.close()
