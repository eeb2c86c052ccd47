"""LoRA adapters with random numbers, in PEFT's format, and the models that they make of a base by plain arithmetic."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

ATTENTION = ("q_proj", "v_proj")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "somewhere/tiny",
    "bias": "none",
    "r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.05,
    "use_rslora": False,
    "use_dora": False,
    "modules_to_save": None,
    "init_lora_weights": True,
    "inference_mode": True,
    "loftq_config": {},
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
}


def make_adapter(folder: Path, model: Path, seed: int, targets: tuple[str, ...] = ATTENTION, **config: Any) -> Path:
    """Writes an adapter; `config` is laid over a plain configuration."""
    said = PLAIN | {"target_modules": list(targets)} | config
    drawn = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, layer in LlamaForCausalLM.from_pretrained(model).named_modules():
        if isinstance(layer, torch.nn.Linear) and name.rpartition(".")[2] in targets:
            rank = said.get("rank_pattern", {}).get(name.rpartition(".")[2], said["r"])
            for half, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
                weights[f"base_model.model.{name}.lora_{half}.weight"] = 0.25 * torch.randn(shape, generator=drawn)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder


def merged(model: Path, adapter: Path, scaling: float | dict[str, float]) -> LlamaForCausalLM:
    """Returns the base with `W + scaling * B @ A` for each layer; `scaling` may differ by the layer's last name."""
    made = LlamaForCausalLM.from_pretrained(model).eval().requires_grad_(False)
    weights = load_file(adapter / "adapter_model.safetensors")
    for key in weights:
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            factor = scaling if isinstance(scaling, float) else scaling[name.rpartition(".")[2]]
            change = weights[key.replace("lora_A", "lora_B")] @ weights[key]
            made.get_submodule(name).weight += factor * change
    return made
