"""Writes the sample chat model, which comes as a GGUF file, as a folder that any loader reads quickly.

The library's own way reads the file's header three times, some seconds each, and builds the whole model. Here the
library's fast reader reads it, and each tensor goes from the file to the folder: the same bytes in a tenth of the time.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeArgument=false
# (transformers publishes partly unknown types)

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast
from transformers.integrations.gguf.dequant import GGML_BLOCK, dequantize
from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict, read_gguf_metadata

_CONFIG = {
    "llama.block_count": "num_hidden_layers",
    "llama.context_length": "max_position_embeddings",
    "llama.embedding_length": "hidden_size",
    "llama.feed_forward_length": "intermediate_size",
    "llama.attention.head_count": "num_attention_heads",
    "llama.attention.head_count_kv": "num_key_value_heads",
    "llama.attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "llama.rope.dimension_count": "head_dim",
    "llama.rope.freq_base": "rope_theta",
    "llama.vocab_size": "vocab_size",
    "tokenizer.ggml.bos_token_id": "bos_token_id",
    "tokenizer.ggml.eos_token_id": "eos_token_id",
    "tokenizer.ggml.unknown_token_id": "unk_token_id",
    "tokenizer.ggml.padding_token_id": "pad_token_id",
}
_Q4_1 = 3  # GGUF's number of the format
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert_sample(gguf: Path, folder: Path) -> None:
    """Writes a Llama with tied embeddings, in bfloat16, and its tokenizer into `folder`, which is there."""
    metadata, _ = read_gguf_metadata(str(gguf))
    config = LlamaConfig(**{ours: metadata[theirs] for theirs, ours in _CONFIG.items() if theirs in metadata})
    config.tie_word_embeddings = True
    with _one_thread():
        weights = _weights(gguf, config)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    told = config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")
    PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


@contextmanager
def _one_thread() -> Generator[None]:
    """Has torch compute with one thread, which takes half a second: several wait for each other hundreds of times, on a
    machine that is busy (as one is that starts a cluster) for 20 seconds in all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _weights(gguf: Path, config: Any) -> dict[str, torch.Tensor]:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    header = GgufHeader.from_file(str(gguf))
    raw = load_gguf_state_dict(header)
    found: dict[str, torch.Tensor] = {}
    for info in header.tensors:
        *layer, kind, _ = info.name.removeprefix("blk.").split(".")
        name = f"model.layers.{layer[0]}.{_OF_LAYER[kind]}" if layer else _WHOLE[kind]
        weight = _numbers(raw[info.name][...], info.ggml_type).reshape(info.shape).to(torch.bfloat16)
        found[f"{name}.weight"] = _unturned(weight, heads[kind]) if kind in heads else weight
    return found


def _numbers(data: torch.Tensor, kind: int) -> torch.Tensor:
    """Returns the numbers of a tensor of the file, flat."""
    if kind == _Q4_1:
        return _of_four_bits(data.view(-1, 20))
    return dequantize(data, kind) if kind in GGML_BLOCK else data


def _of_four_bits(blocks: torch.Tensor) -> torch.Tensor:
    """Returns 32 numbers a block, which has a factor, a summand, the first half in its lower and the second in its
    upper bits. Four times as fast as the library's function, which computes in more and longer steps."""
    factor, summand = (blocks[:, at : at + 2].view(torch.float16).float() for at in (0, 2))
    told = torch.empty((blocks.shape[0], 32), dtype=torch.bfloat16)
    told[:, :16] = (blocks[:, 4:] & 15).float().mul_(factor).add_(summand)
    told[:, 16:] = (blocks[:, 4:] >> 4).float().mul_(factor).add_(summand)
    return told


def _unturned(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Returns rows in the order of the original: in GGUF the two numbers that are turned together are neighbours."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
