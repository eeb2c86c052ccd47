"""A small model whose widths are multiples of the blocks that share a scale."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.conftest import EOS, byte_tokenizer


@pytest.fixture(scope="session")
def wide(tiny_settings: EngineSettings, tmp_path_factory: pytest.TempPathFactory) -> EngineSettings:
    """A Llama in full weights."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=260, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, initializer_range=0.3, bos_token_id=None, eos_token_id=EOS, pad_token_id=EOS,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return replace(tiny_settings, source=ModelSource(str(folder)))
