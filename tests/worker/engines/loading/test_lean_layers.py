"""Layers of our own take the place of the library's, and each number stays as it was."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from transformers import (
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from millstream.worker.engines.transformers import engine as engine_module
from millstream.worker.engines.transformers.loading import lean_layers, load
from millstream.worker.engines.transformers.loading.lean_layers import LeanLayer
from millstream.worker.engines.transformers.loading.support import NotBatched
from millstream.worker.engines.transformers.settings import EngineSettings
from tests.worker.engines.exactness.test_exact_arithmetic import PROMPTS, generated
from tests.worker.engines.loading.test_architectures import DECODER, MakeModel, saved
from tests.worker.engines.rig import Rig

LONG = [(i * 31 + 7) % 250 for i in range(150)]  # more than a step
FAMILIES: dict[str, MakeModel] = {
    "mistral": lambda: MistralForCausalLM(MistralConfig(**DECODER, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**DECODER)),  # its products have biases
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**DECODER)),  # its heads have norms of their own
}


@pytest.fixture(autouse=True)
def on_cpus_alone(device: str) -> None:
    if device != "cpu":
        pytest.skip("lean layers are for CPUs")


def layers_of(rig: Rig) -> list[Any]:
    model: Any = rig.engine._model  # type: ignore[union-attr]
    return list(model.model.layers)


def spread(model: Any) -> None:
    """Gives norms and biases, which are made as ones and zeros, numbers of which each matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape), alpha=0.3)


def told(settings: EngineSettings) -> tuple[list[Any], list[list[int]], list[float | None]]:
    """Returns the layers, the tokens of all prompts in one batch, and a prompt's log-probabilities."""
    with closing(Rig(settings)) as rig:
        tokens = rig.tokens(*(rig.spec(prompt, 30) for prompt in [*PROMPTS, LONG]))
        (scored,) = rig.run(rig.spec(LONG, 0, prompt_logprobs=0))
        return layers_of(rig), tokens, [each.logprob for each in scored[0].prompt_logprobs or []]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_number_is_that_of_the_librarys_layers(
    family: str, dtype: Any, tmp_path: Path, small: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> Any:
        model = FAMILIES[family]()
        spread(model)
        return model

    settings = replace(saved(made, tmp_path, small), dtype=dtype)
    layers, *ours = told(settings)
    assert all(type(layer) is LeanLayer for layer in layers)
    monkeypatch.setattr(load, "make_lean", lambda model, adapters: None)
    layers, *theirs = told(settings)
    assert not any(type(layer) is LeanLayer for layer in layers)
    assert ours == theirs


def test_joined_products_take_the_place_of_the_single_ones(tiny: Rig, reference: LlamaForCausalLM) -> None:
    for lean, single in zip(layers_of(tiny), reference.model.layers, strict=True):
        names = {name.rsplit(".", 1)[-1] for name, _ in lean.named_modules()}
        assert names >= {"qkv_proj", "gate_up_proj", "o_proj", "down_proj"}
        assert not names & {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
        own = lean.self_attn.qkv_proj
        assert own.out_features == sum(
            getattr(single.self_attn, name).out_features for name in ("q_proj", "k_proj", "v_proj")
        )


def test_products_stay_apart_where_adapters_may_come(tiny_settings: EngineSettings, tiny: Rig) -> None:
    with closing(Rig(replace(tiny_settings, adapters=True))) as rig:
        assert all(type(layer) is LeanLayer and hasattr(layer.self_attn, "q_proj") for layer in layers_of(rig))
        ours = rig.tokens(*(rig.spec(prompt, 30) for prompt in PROMPTS))
    assert ours == tiny.tokens(*(tiny.spec(prompt, 30) for prompt in PROMPTS))


def test_layers_that_would_compute_something_else_are_left_out(
    tiny_settings: EngineSettings, reference: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LeanLayer._attend_plainly

    def wrong(*args: Any) -> torch.Tensor:
        return right(*args) * (1 + 2**-20)

    monkeypatch.setattr(LeanLayer, "_attend_plainly", wrong)
    with capture_logs() as logs:
        layers, tokens, _ = told(tiny_settings)
    assert not any(type(layer) is LeanLayer for layer in layers)
    assert [line["why"] for line in logs if line["event"] == "layers_not_lean"] == ["without pages, 1 tokens"]
    assert tokens == [generated(reference, prompt, 30) for prompt in [*PROMPTS, LONG]]


def test_layers_that_fail_are_left_out(tiny_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> torch.Tensor:
        raise AttributeError("this build has no such operator")

    monkeypatch.setattr(lean_layers.torch, "rms_norm", missing)
    with capture_logs() as logs:
        layers, _, _ = told(tiny_settings)
    assert not any(type(layer) is LeanLayer for layer in layers)
    assert "this build has no such operator" in [line.get("why") for line in logs]


def test_a_window_keeps_the_librarys_layers(tmp_path: Path, small: EngineSettings) -> None:
    settings = saved(lambda: MistralForCausalLM(MistralConfig(**DECODER, sliding_window=32)), tmp_path, small)
    with closing(Rig(settings)) as rig:
        assert not any(type(layer) is LeanLayer for layer in layers_of(rig))


def test_they_serve_where_the_batch_turns_out_not_to(
    tiny_settings: EngineSettings, reference: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise NotBatched("LlamaForCausalLM", "fails in this test")

    monkeypatch.setattr(engine_module, "try_out", refuse)
    layers, tokens, _ = told(tiny_settings)
    assert all(type(layer) is LeanLayer for layer in layers)
    assert tokens == [generated(reference, prompt, 30) for prompt in [*PROMPTS, LONG]]
