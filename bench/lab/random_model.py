"""A model of the shape of a real one, with random weights: what it writes means nothing, what it costs is right.

python -m bench.lab.random_model --shape 8b FOLDER      # Llama 3.1 8B in bfloat16: 16 GB
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers publish partly unknown types)

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}
KEY_HEADS = {"tiny": 2, "1b": 8, "8b": 8}
VOCABULARY = {"tiny": 260, "1b": 128256, "8b": 128256}
SPREAD = 6.5  # standard deviation of the logits
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"


def make(shape: str, folder: Path, device: str) -> None:
    config = LlamaConfig(
        **SHAPES[shape],
        vocab_size=VOCABULARY[shape],
        num_key_value_heads=KEY_HEADS[shape],
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=256,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    # Plain random logits are so flat that top-p keeps most of the vocabulary; a trained model's are not.
    torch.nn.init.normal_(model.lm_head.weight, std=SPREAD / config.hidden_size**0.5)
    model.save_pretrained(folder)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)


def byte_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Returns one token for each byte, and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", chat_template=template)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="8b", choices=SHAPES)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    make(args.shape, args.folder, args.device)


if __name__ == "__main__":
    main()
