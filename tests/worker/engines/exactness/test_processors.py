"""A machine's gaps are passed over: what its processor or its build of torch cannot do; models load and generate all
the same."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from transformers import LlamaForCausalLM

from millstream.worker.engines.computing.engine import TransformersComputing
from millstream.worker.engines.transformers.loading.attention import fused
from millstream.worker.engines.transformers.loading.device import computes_in_bfloat16, pick_dtype
from millstream.worker.engines.transformers.loading.packing import packable
from millstream.worker.engines.transformers.settings import SAMPLE_EMBEDDING, EngineSettings, ModelSource
from tests.worker.engines.exactness.test_exact_arithmetic import PROMPTS, generated
from tests.worker.engines.rig import Rig

ROOT = Path(__file__).parents[4]
CPU = torch.device("cpu")
HUGE = 10**15  # parameters: more than fits in any memory


@pytest.fixture(autouse=True)
def tried_anew() -> Iterator[None]:
    for tried in (packable, fused):
        tried.cache_clear()
    yield
    for tried in (packable, fused):
        tried.cache_clear()


def refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("this path needs the cpu support of a newer machine\nand more lines")


def nothing(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.zeros((*x.shape[:-1], 48), dtype=x.dtype)


def greedy(settings: EngineSettings) -> tuple[list[list[int]], dict[str, str], list[Any]]:
    """Tokens of all prompts, what the heartbeat tells, and what was passed over."""
    with capture_logs() as logs:
        rig = Rig(settings)
    try:
        tokens = rig.tokens(*(rig.spec(prompt, 20) for prompt in PROMPTS))
    finally:
        rig.close()
    passed_over = [(line["what"], line["dtype"]) for line in logs if line["event"] == "passed_over"]
    return tokens, dict(rig.card.details), passed_over


@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_an_old_processor_runs_every_number_format(tiny_folder: Path, capability: str) -> None:
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": capability, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, __file__, str(tiny_folder)]
    done = subprocess.run(program, env=os.environ | limits, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    reference = LlamaForCausalLM.from_pretrained(tiny_folder).eval()
    assert told["float32"]["tokens"] == [generated(reference, prompt, 20) for prompt in PROMPTS]
    for dtype in ("bfloat16", "float16"):
        assert [len(tokens) for tokens in told[dtype]["tokens"]] == [20] * len(PROMPTS)
    if platform.machine() in ("x86_64", "AMD64"):
        assert told["bfloat16"]["passed_over"] == [["packed weights", "bfloat16"]]
        about = told["bfloat16"]["details"]
        assert about["instructions"] in (capability.upper(), "DEFAULT")
        assert (about["bfloat16_fast"], about["packed_weights"]) == ("no", "no")


@pytest.mark.parametrize(
    ("operators", "changes"),
    [
        (SimpleNamespace(), {}),
        (None, {"_reorder_linear_weight": refuse}),
        (None, {"_linear_pointwise": refuse}),
        (None, {"_linear_pointwise": nothing}),
    ],
    ids=["missing", "cannot pack", "fails when run", "computes something else"],
)
def test_layers_that_cannot_be_packed_stay_plain(
    tiny_settings: EngineSettings,
    reference: LlamaForCausalLM,
    monkeypatch: pytest.MonkeyPatch,
    operators: object,
    changes: dict[str, Any],
) -> None:
    if operators is not None:
        monkeypatch.setattr(torch.ops, "mkldnn", operators)
    for name, change in changes.items():
        monkeypatch.setattr(torch.ops.mkldnn, name, change, raising=False)
    tokens, details, passed_over = greedy(tiny_settings)
    assert tokens == [generated(reference, prompt, 20) for prompt in PROMPTS]
    assert passed_over == [("packed weights", "float32")]
    assert details["packed_weights"] == "no"
    _, details, passed_over = greedy(replace(tiny_settings, dtype="bfloat16"))
    assert passed_over == [("packed weights", "bfloat16")]
    assert greedy(tiny_settings)[2] == []  # tried once


def test_fused_attention_that_fails_is_replaced_by_plain_operators(
    tiny_settings: EngineSettings, reference: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [generated(reference, prompt, 20) for prompt in PROMPTS]
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.attention.sdpa", refuse)
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", refuse)
    tokens, _, passed_over = greedy(tiny_settings)
    assert tokens == expected
    assert ("fused attention", "float32") in passed_over


def test_vectors_need_no_fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    def vectors() -> list[list[float]]:
        engine = TransformersComputing(EngineSettings(source=ModelSource(SAMPLE_EMBEDDING)))
        engine.load()
        return engine.embed([[101, 2054, 102], [101, 102]])

    expected = vectors()
    fused.cache_clear()
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.attention.sdpa", refuse)
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", refuse)
    for ours, theirs in zip(vectors(), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_trying_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    assert {packable(torch.float32), fused(torch.float32)} <= {True, False}
    assert torch.equal(torch.get_rng_state(), before)


def test_a_build_that_cannot_tell_about_bfloat16_counts_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported", "get_capabilities"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not computes_in_bfloat16()
    assert pick_dtype("auto", CPU, HUGE) == torch.float32
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=lambda: True))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True}, raising=False)
    assert pick_dtype("auto", CPU, HUGE) == torch.bfloat16
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert pick_dtype("auto", CPU, HUGE) == torch.float32


def main(folder: str) -> None:
    """In a process of its own: the limits on instruction sets are read when torch starts."""
    settings = EngineSettings(source=ModelSource(folder), slots=8, page_size=16, step_tokens=64, threads=1)
    told = {}
    for dtype in ("float32", "bfloat16", "float16"):
        tokens, details, passed_over = greedy(replace(settings, dtype=dtype))
        told[dtype] = {"tokens": tokens, "details": details, "passed_over": passed_over}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
