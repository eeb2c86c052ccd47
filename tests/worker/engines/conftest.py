"""A tiny random model for exact arithmetic, and the real SmolLM2, each loaded once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.rig import Rig

EOS = 256
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if tools %}tools:{{ tools[0].function.name }}\n{% endif %}{% if mood is defined %}mood:{{ mood }}\n{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", chat_template=TEMPLATE)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_settings(tiny_folder: Path) -> EngineSettings:
    return EngineSettings(source=ModelSource(str(tiny_folder)), slots=8, page_size=16, step_tokens=64, threads=1)


@pytest.fixture(scope="session")
def tiny(tiny_settings: EngineSettings) -> Iterator[Rig]:
    rig = Rig(tiny_settings)
    yield rig
    rig.close()


@pytest.fixture(scope="session")
def reference(tiny_folder: Path) -> LlamaForCausalLM:
    """Returns the same weights under transformers' own `generate`."""
    return LlamaForCausalLM.from_pretrained(tiny_folder).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Rig]:
    rig = Rig(EngineSettings(max_model_len=2048, slots=12, threads=1))
    yield rig
    rig.close()
