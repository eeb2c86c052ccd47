"""Other architectures than Llama, in one batch: each computes what `transformers.generate` computes."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.conftest import EOS, byte_tokenizer
from tests.worker.engines.exactness.test_exact_arithmetic import generated
from tests.worker.engines.rig import Rig

MakeModel = Callable[[], PreTrainedModel]

ALL: dict[str, Any] = {"vocab_size": 260, "bos_token_id": None, "eos_token_id": EOS, "initializer_range": 0.3}
SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
DECODER = ALL | SIZE | {"num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16, "pad_token_id": EOS}
WINDOW = {"sliding_window": 32}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}

RUN: dict[str, MakeModel] = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**DECODER)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**DECODER, **WINDOW)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**DECODER, **WINDOW)),
    "gpt-oss": lambda: GptOssForCausalLM(GptOssConfig(**DECODER, **WINDOW, **EXPERTS)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**ALL, **GPT2)),
}

BATCHED = (
    LlamaForCausalLM,
    Qwen3ForCausalLM,
    MistralForCausalLM,
    Gemma2ForCausalLM,
    GptOssForCausalLM,
    GPT2LMHeadModel,
)
"""The architectures of `RUN`, and the one that all other tests use."""


def saved(make: MakeModel, folder: Path, small: EngineSettings) -> EngineSettings:
    torch.manual_seed(7)
    model = make()
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return replace(small, source=ModelSource(str(folder)))


@pytest.mark.parametrize("kind", RUN)
def test_it_generates_and_scores_as_the_library_does(kind: str, tmp_path: Path, small: EngineSettings) -> None:
    """Prompts shorter and longer than the window and than a step, all in one batch."""
    settings = saved(RUN[kind], tmp_path, small)
    prompts = [[(7 * i + n) % 250 for i in range(n)] for n in (5, 40, 150)]
    reference: Any = type(RUN[kind]()).from_pretrained(tmp_path).eval()
    with closing(Rig(settings)) as rig:
        ours = rig.tokens(*(rig.spec(prompt, 30) for prompt in prompts))
        (scored,) = rig.run(rig.spec(prompts[2], 0, prompt_logprobs=0))
        again = rig.one(prompts[1], 30)
    assert ours == [generated(reference, prompt, 30) for prompt in prompts]
    assert again == ours[1]
    logits = reference(torch.tensor([prompts[2]])).logits[0].log_softmax(-1)
    wanted = [logits[i, token].item() for i, token in enumerate(prompts[2][1:])]
    assert [told.logprob for told in scored[0].prompt_logprobs or []][1:] == pytest.approx(wanted, abs=1e-4)
