"""Checkpoints that transformers reads, by itself or with a package: what a CPU makes of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig, LlamaForCausalLM

from millstream.worker.engines.transformers.settings import EngineSettings
from tests.worker.engines.conftest import byte_tokenizer
from tests.worker.engines.loading.quantized.packers import Packed, as_awq, rounded
from tests.worker.engines.loading.quantized.test_checkpoints import (
    PROMPTS,
    at,
    checkpoint,
    packed_by,
    told_by_the_library,
)
from tests.worker.engines.rig import Rig


def layers(wide: EngineSettings) -> dict[str, torch.Tensor]:
    told = load_file(Path(wide.source.model) / "model.safetensors")
    return {name.removesuffix(".weight"): weight for name, weight in told.items() if "_proj." in name}


def test_an_fp8_checkpoint_is_made_into_full_weights_on_a_cpu(wide: EngineSettings, tmp_path: Path) -> None:
    tensors, plain = {}, {}
    for name, weight in layers(wide).items():
        scale = weight.abs().max() / 448  # the largest number of the format
        tensors[f"{name}.weight_scale_inv"] = scale.view(1, 1)
        tensors[f"{name}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
        plain[f"{name}.weight"] = tensors[f"{name}.weight"].float() * scale
    told = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    rig = Rig(at(wide, checkpoint(wide, tmp_path / "fp8", told, tensors)))
    try:
        assert rig.one(PROMPTS[0]) == told_by_the_library(wide, plain, PROMPTS[0])
        assert rig.card.exactness["chat"] == "exact"
    finally:
        rig.close()


def _four_bits(name: str, weight: torch.Tensor, packed: Packed) -> None:
    """Packs a layer as compressed-tensors' `pack-quantized`: eight numbers to a word along the inputs, zeros likewise
    along the outputs."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    made = rounded(weight, 4, 32)
    packed.plain[f"{name}.weight"] = made.plain()
    packed.tensors |= {
        f"{name}.weight_packed": pack_to_int32((made.numbers - 8).to(torch.int8), 4),
        f"{name}.weight_scale": made.scales.t().contiguous(),
        f"{name}.weight_zero_point": pack_to_int32((made.zeros.t() - 8).to(torch.int8).contiguous(), 4, packed_dim=0),
        f"{name}.weight_shape": torch.tensor(weight.shape),
    }


def _eight_bits(name: str, weight: torch.Tensor, packed: Packed) -> None:
    scale = weight.abs().amax(1, keepdim=True) / 127
    whole = (weight / scale).round().to(torch.int8)
    packed.plain[f"{name}.weight"] = whole.float() * scale
    packed.tensors |= {f"{name}.weight": whole, f"{name}.weight_scale": scale}


def _float_bits(name: str, weight: torch.Tensor, packed: Packed) -> None:
    scale = weight.abs().amax(1, keepdim=True) / 448
    short = (weight / scale).to(torch.float8_e4m3fn)
    packed.plain[f"{name}.weight"] = short.float() * scale
    packed.tensors |= {f"{name}.weight": short, f"{name}.weight_scale": scale}


_EACH_ROW = {"symmetric": True, "strategy": "channel", "dynamic": False}
FORMATS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pack-quantized": (
        _four_bits,
        {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 32},
    ),
    "int-quantized": (_eight_bits, _EACH_ROW | {"num_bits": 8, "type": "int"}),
    "float-quantized": (_float_bits, _EACH_ROW | {"num_bits": 8, "type": "float"}),
}


@pytest.fixture(params=list(FORMATS))
def compressed(request: pytest.FixtureRequest, wide: EngineSettings, tmp_path: Path) -> Iterator[tuple[Packed, Path]]:
    pytest.importorskip("compressed_tensors", reason="the extra compressed-tensors is not installed")
    way, weights = FORMATS[request.param]
    packed = packed_by(wide, way)
    told = {
        "quant_method": "compressed-tensors",
        "format": request.param,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "format": request.param}},
    }
    yield packed, checkpoint(wide, tmp_path / "compressed", told, packed.tensors)


def test_compressed_tensors_are_made_into_full_weights(wide: EngineSettings, compressed: tuple[Packed, Path]) -> None:
    packed, folder = compressed
    first, second = Rig(at(wide, folder)), Rig(at(wide, folder))
    try:
        alone = [told_by_the_library(wide, packed.plain, prompt) for prompt in PROMPTS]
        assert first.tokens(*(first.spec(prompt) for prompt in PROMPTS)) == alone
        assert first.card.exactness["chat"] == "exact"
        whole = first.one(PROMPTS[0], seed=3, temperature=0.9)
        assert second.card.fingerprint == first.card.fingerprint
        for cut in range(1, 16):
            assert second.one(PROMPTS[0], seed=3, temperature=0.9, generated=whole[:cut]) == whole
    finally:
        first.close()
        second.close()


def test_our_reading_of_awq_is_that_of_the_package_that_converts_it(wide: EngineSettings) -> None:
    pytest.importorskip("compressed_tensors", reason="the extra compressed-tensors is not installed")
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
    from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter

    for name, plain in (packed := packed_by(wide, as_awq)).plain.items():
        start = name.removesuffix("weight")
        own = {name.removeprefix(start): each for name, each in packed.tensors.items() if name.startswith(start)}
        made = AutoAWQConverter(group_size=32).process({f"layer.{name}": each for name, each in own.items()})
        numbers = unpack_from_int32(made["layer.weight_packed"], 4, plain.shape)
        scale = made["layer.weight_scale"]
        zeros = unpack_from_int32(made["layer.weight_zero_point"], 4, scale.shape, packed_dim=0)
        groups = torch.arange(plain.shape[1]) // 32
        whole = (numbers.int() - zeros[:, groups].int()) * scale.float()[:, groups]
        assert torch.equal(whole, plain)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_checkpoint_of_bitsandbytes(wide: EngineSettings, tmp_path: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra quantization is not installed")
    how = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4, bnb_4bit_quant_type="nf4")
    options: dict[str, Any] = {"dtype": torch.float32, "device_map": {"": "cpu"}}
    made = LlamaForCausalLM.from_pretrained(wide.source.model, quantization_config=how, **options)
    made.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    ids = made.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=8, min_new_tokens=8, do_sample=False)
    rig = Rig(at(wide, tmp_path))
    try:
        assert rig.one(PROMPTS[0], 8) == ids[0, len(PROMPTS[0]) :].tolist()
        assert rig.card.exactness["chat"] == "tokens"
    finally:
        rig.close()
