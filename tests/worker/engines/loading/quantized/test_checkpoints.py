"""Checkpoints that are quantised already: read as they are on a CPU, or refused before anything is read."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, LlamaForCausalLM

from millstream.common.errors import BadRequest
from millstream.worker.engines.transformers.loading.quantization import checkpoints
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource, Quantization
from millstream.worker.service.registry import offers
from millstream.worker.settings import WorkerSettings
from tests.worker.engines.conftest import byte_tokenizer
from tests.worker.engines.loading.quantized.packers import Packed, as_awq, as_gptq
from tests.worker.engines.loading.test_loading import refusal
from tests.worker.engines.rig import Rig

PROMPTS = [[7, 8, 9, 10, 11], [30, 31, 32], list(range(40, 80)), [99]]

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq"}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
WAYS: dict[str, tuple[dict[str, Any], Callable[[str, torch.Tensor, Packed], None]]] = {
    "gptq": (GPTQ, as_gptq),
    "gptq, inputs in groups by importance": (
        GPTQ | {"desc_act": True},
        lambda name, weight, packed: as_gptq(name, weight, packed, ordered=True),
    ),
    "gptq of the second format": (
        GPTQ | {"checkpoint_format": "gptq_v2"},
        lambda name, weight, packed: as_gptq(name, weight, packed, first=False),
    ),
    "gptq with 8 bits": (GPTQ | {"bits": 8}, lambda name, weight, packed: as_gptq(name, weight, packed, bits=8)),
    "gptq with 2 bits": (GPTQ | {"bits": 2}, lambda name, weight, packed: as_gptq(name, weight, packed, bits=2)),
    "awq": (AWQ, as_awq),
}


def checkpoint(wide: EngineSettings, folder: Path, told: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    """Writes the model `wide` with `tensors` in the place of its linear layers' weights."""
    shutil.copytree(wide.source.model, folder)
    kept = {name: each for name, each in load_file(folder / "model.safetensors").items() if "_proj." not in name}
    save_file(kept | tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": told}))
    return folder


def packed_by(wide: EngineSettings, way: Callable[[str, torch.Tensor, Packed], None]) -> Packed:
    torch.manual_seed(5)
    packed = Packed()
    for name, weight in load_file(Path(wide.source.model) / "model.safetensors").items():
        if "_proj." in name:
            way(name.removesuffix(".weight"), weight, packed)
    return packed


def told_by_the_library(wide: EngineSettings, plain: dict[str, torch.Tensor], prompt: list[int]) -> list[int]:
    """Generates with the library's own layers and the plain weights."""
    model = LlamaForCausalLM.from_pretrained(wide.source.model, dtype=torch.float32)
    for name, weight in model.named_parameters():
        if name in plain:
            assert weight.shape == plain[name].shape
            weight.data = plain[name]
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=16, min_new_tokens=16, do_sample=False)
    return ids[0, len(prompt) :].tolist()


def at(wide: EngineSettings, folder: Path) -> EngineSettings:
    return replace(wide, source=ModelSource(str(folder)))


@pytest.fixture(params=list(WAYS))
def written(request: pytest.FixtureRequest, wide: EngineSettings, tmp_path: Path) -> Iterator[tuple[Packed, Path]]:
    told, way = WAYS[request.param]
    packed = packed_by(wide, way)
    yield packed, checkpoint(wide, tmp_path / "packed", told, packed.tensors)


def test_it_computes_what_the_numbers_stand_for(wide: EngineSettings, written: tuple[Packed, Path]) -> None:
    packed, folder = written
    rig = Rig(at(wide, folder))
    try:
        alone = [told_by_the_library(wide, packed.plain, prompt) for prompt in PROMPTS]
        assert rig.tokens(*(rig.spec(prompt) for prompt in PROMPTS)) == alone
        assert rig.card.exactness["chat"] == "exact"
    finally:
        rig.close()


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_another_worker_goes_on_exactly_from_every_cut(wide: EngineSettings, tmp_path: Path, name: str) -> None:
    told, way = WAYS[name]
    folder = checkpoint(wide, tmp_path / "packed", told, packed_by(wide, way).tensors)
    first, second = Rig(at(wide, folder)), Rig(at(wide, folder))
    try:
        assert first.card.fingerprint == second.card.fingerprint
        whole = first.one(PROMPTS[0], seed=3, temperature=0.9)
        for cut in range(1, 16):
            assert second.one(PROMPTS[0], seed=3, temperature=0.9, generated=whole[:cut]) == whole
    finally:
        first.close()
        second.close()


def test_the_same_numbers_read_in_another_way_are_another_model(wide: EngineSettings, tmp_path: Path) -> None:
    tensors = packed_by(wide, as_gptq).tensors
    first = checkpoint(wide, tmp_path / "first", GPTQ, tensors)
    second = checkpoint(wide, tmp_path / "second", GPTQ | {"checkpoint_format": "gptq_v2"}, tensors)
    rigs = [Rig(at(wide, folder)) for folder in (first, second)]
    try:
        assert rigs[0].card.fingerprint != rigs[1].card.fingerprint
    finally:
        for rig in rigs:
            rig.close()


def test_weights_that_are_missing_are_named(wide: EngineSettings, tmp_path: Path) -> None:
    tensors = packed_by(wide, as_gptq).tensors
    left = {name: each for name, each in tensors.items() if not name.startswith("model.layers.1.mlp.up_proj")}
    message = refusal(at(wide, checkpoint(wide, tmp_path / "packed", GPTQ, left)))
    assert "model.layers.1.mlp.up_proj.weight" in message


REFUSED = [
    (GPTQ | {"bits": 3}, "GPTQ with 3 bits"),
    (GPTQ | {"checkpoint_format": "marlin"}, "'marlin'"),
    (AWQ | {"version": "gemv"}, "'gemv'"),
    ({"quant_method": "fbgemm_fp8"}, "computed by GPUs alone"),
    ({"quant_method": "rounding"}, "'rounding', which this version of transformers does not know"),
    ({"quant_method": "compressed-tensors"}, "pip install 'millstream[compressed-tensors]'"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "pip install 'millstream[quantization]'"),
    ({"load_in_8bit": True}, "pip install 'millstream[quantization]'"),
    ({"quant_method": "torchao"}, "pip install 'millstream[torchao]'"),
]


@pytest.mark.parametrize(("told", "message"), REFUSED)
def test_what_cannot_be_read_is_refused_before_the_weights_are(
    wide: EngineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: None)
    folder = checkpoint(wide, tmp_path / "packed", told, {})
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert message in refusal(at(wide, folder))


@pytest.mark.parametrize(("told", "packages"), [(GPTQ, "gptqmodel and optimum"), (AWQ, "package gptqmodel")])
def test_a_gpu_needs_the_packages_of_the_kernels(
    wide: EngineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], packages: str
) -> None:
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: None)
    config = LlamaForCausalLM.config_class.from_pretrained(checkpoint(wide, tmp_path / "packed", told, {}))
    with pytest.raises(checkpoints.LoadFailed) as refused:
        checkpoints.prepared(config, None, torch.device("cuda"))
    assert packages in refused.value.message
    assert "pip install 'millstream[gptq]'`, or serve it with --engine vllm" in refused.value.message


@pytest.mark.parametrize("asked", ["int8", "4bit"])
def test_what_is_quantised_is_not_quantised_again(wide: EngineSettings, tmp_path: Path, asked: Quantization) -> None:
    folder = checkpoint(wide, tmp_path / "packed", GPTQ, {})
    message = refusal(replace(at(wide, folder), quantization=asked))
    assert message == f"This checkpoint's weights are quantised already (gptq): leave --quantization {asked} out."


def test_a_gguf_file_is_quantised_again_on_cpus_alone() -> None:
    config = LlamaForCausalLM.config_class()
    assert checkpoints.prepared(config, "int4", torch.device("cpu"), "small.gguf") == {}
    with pytest.raises(checkpoints.LoadFailed) as refused:
        checkpoints.prepared(config, "8bit", torch.device("cpu"), "small.gguf")
    assert "leave --quantization 8bit out, or give the model's checkpoint in safetensors" in refused.value.message


def test_an_encoder_is_unpacked_too(wide: EngineSettings, tmp_path: Path) -> None:
    torch.manual_seed(3)
    shape = {"vocab_size": 260, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    model = BertModel(BertConfig(**shape, num_attention_heads=4, initializer_range=0.3)).eval()
    packed = Packed()
    for name, weight in model.state_dict().items():
        if name.startswith("encoder.") and name.endswith(".weight") and weight.dim() == 2:
            as_gptq(name.removesuffix(".weight"), weight, packed)
    for folder in (tmp_path / "packed", tmp_path / "plain"):
        model.save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
    whole = load_file(tmp_path / "plain" / "model.safetensors")
    save_file(whole | packed.plain, tmp_path / "plain" / "model.safetensors", metadata={"format": "pt"})
    kept = {name: each for name, each in whole.items() if name not in packed.plain}
    save_file(kept | packed.tensors, tmp_path / "packed" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    (tmp_path / "packed" / "config.json").write_text(json.dumps(config | {"quantization_config": GPTQ}))
    vectors = [
        _loaded(at(wide, tmp_path / name)).vectors([[7, 8, 9], list(range(40, 60))], None)
        for name in ("packed", "plain")
    ]
    assert vectors[0] == vectors[1]


def test_an_encoder_is_not_quantised_while_it_is_read(tmp_path: Path) -> None:
    BertConfig(architectures=["BertModel"]).save_pretrained(tmp_path)
    (offer,) = offers(WorkerSettings(model=str(tmp_path), engine="transformers", quantization="int8"))
    with pytest.raises(BadRequest) as refused:
        offer.make()
    assert "--quantization is for models that write on (causal)" in refused.value.message


def _loaded(settings: EngineSettings) -> Any:
    from millstream.worker.engines.base import silent
    from millstream.worker.engines.computing.model import load_computing_model

    return load_computing_model(settings, "encoder", silent)
