"""Weights quantised by torchao and bitsandbytes while they are read."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.loading.placement import quantized
from millstream.worker.engines.transformers.settings import EngineSettings, Quantization
from tests.worker.engines.loading.test_loading import refusal
from tests.worker.engines.rig import Rig

PROMPT = [7, 8, 9, 10, 11]


@pytest.mark.parametrize("asked", ["int8", "int4"])
def test_torchao_which_accelerators_use_quantises_each_layer_of_the_blocks(
    tiny_folder: Path, asked: Quantization
) -> None:
    pytest.importorskip("torchao", reason="the extra torchao is not installed")
    own = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, quantization_config=quantized(asked))
    layers = [layer for layer in own.modules() if isinstance(layer, nn.Linear)]
    assert sum(type(layer.weight) is not nn.Parameter for layer in layers) == 14  # seven in each of two blocks
    whole = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    with torch.no_grad():
        told, wanted = (model(torch.tensor([PROMPT])).logits for model in (own, whole))
    assert torch.corrcoef(torch.stack((told.flatten(), wanted.flatten())))[0, 1] > 0.85


@pytest.mark.parametrize(("asked", "extra"), [("int8", "torchao"), ("int4", "torchao"), ("4bit", "quantization")])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, asked: Quantization, extra: str
) -> None:
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.placement.find_spec", lambda name: None)
    with pytest.raises(LoadFailed, match=re.escape(f"pip install 'millstream[{extra}]'")):
        quantized(asked)


def test_a_missing_package_is_told_before_loading(
    tiny_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.placement.find_spec", lambda name: None)
    assert "pip install 'millstream[quantization]'" in refusal(replace(tiny_settings, quantization="8bit"))


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
        ids = own.generate(torch.tensor([PROMPT]), max_new_tokens=8, min_new_tokens=8, do_sample=False)
        assert rig.one(PROMPT, 8) == ids[0, len(PROMPT) :].tolist()
        assert rig.card.exactness["chat"] == "tokens"
    finally:
        rig.close()
