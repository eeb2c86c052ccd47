"""Other architectures than Llama: each computes what `transformers.generate` computes, or does not start."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.engine import TransformersEngine
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
LATENT = {"q_lora_rank": None, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}
ROUTED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}

RUN: dict[str, MakeModel] = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**DECODER)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**DECODER, **WINDOW)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**DECODER, **WINDOW)),
    "gpt-oss": lambda: GptOssForCausalLM(GptOssConfig(**DECODER, **WINDOW, **EXPERTS)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**ALL, **GPT2)),
}
REFUSED: dict[str, tuple[MakeModel, str]] = {
    "mamba": (lambda: MambaForCausalLM(MambaConfig(vocab_size=260, hidden_size=64, num_hidden_layers=2)), "layers"),
    "bloom": (lambda: BloomForCausalLM(BloomConfig(**ALL, hidden_size=64, n_layer=2, n_head=4)), "by itself"),
    "falcon": (lambda: FalconForCausalLM(FalconConfig(**ALL | SIZE, alibi=True)), "by itself"),
    "deepseek": (
        lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**DECODER | {"num_key_value_heads": 4}, **LATENT, **ROUTED)),
        "fails there",
    ),
}


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


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_library_cannot_batch_does_not_start(kind: str, tmp_path: Path, small: EngineSettings) -> None:
    make, why = REFUSED[kind]
    with pytest.raises(LoadFailed, match=f"cannot run {type(make()).__name__}: .*{why}"):
        TransformersEngine(saved(make, tmp_path, small)).load()


def test_a_batch_that_computes_something_else_is_found(
    tmp_path: Path, small: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: Bloom's attention never sees the cache, and the library says nothing of it."""
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.load.check_supported", lambda sketch: None)
    with pytest.raises(LoadFailed, match="something else"):
        TransformersEngine(saved(REFUSED["bloom"][0], tmp_path, small)).load()
