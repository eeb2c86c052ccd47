"""A tiny random model for exact arithmetic, and the real SmolLM2, each loaded once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from millstream.bench.lab import random_model
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from millstream.worker.engines.vllm.settings import VllmSettings
from tests.worker.engines.rig import Rig

EOS = 256
CACHE = 4096  # tokens; without a number the engine takes most of a GPU's memory
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if tools %}tools:{{ tools[0].function.name }}\n{% endif %}{% if mood is defined %}mood:{{ mood }}\n{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    return random_model.byte_tokenizer(TEMPLATE)


@pytest.fixture(scope="session")
def hosted(request: pytest.FixtureRequest) -> bool:
    """Tells whether it is vLLM that computes: `pytest tests/worker/engines --engine vllm`, where it is installed."""
    return request.config.getoption("--engine") == "vllm"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, hosted: bool) -> Path:
    """A Llama of two layers with random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=128 if hosted else 64,  # vLLM has no kernel for narrower heads
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
def device(request: pytest.FixtureRequest) -> str:
    """The device on which engines compute: `pytest tests/worker/engines --device cuda`. References stay on the
    CPU, in float32."""
    return request.config.getoption("--device")


@pytest.fixture(scope="session", autouse=True)
def captured(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--graphs`: prompts and single tokens alike run from captured graphs, and steps overlap, whatever the
    attention."""
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--graphs"):
            from millstream.worker.engines.transformers.memory_plan import MemoryPlan

            plain, forced = MemoryPlan.config, {"use_cuda_graph": True, "use_async_batching": True}
            patch.setattr(MemoryPlan, "config", lambda room: replace(plain(room), **forced))
        yield


@pytest.fixture(scope="session")
def small(device: str) -> EngineSettings:
    """For a tiny model: only `source` is missing."""
    cache = None if device == "cpu" else CACHE
    return EngineSettings(device=device, slots=8, page_size=16, step_tokens=64, threads=1, kv_tokens=cache)


@pytest.fixture(scope="session")
def tiny_settings(tiny_folder: Path, small: EngineSettings, hosted: bool) -> EngineSettings:
    if hosted:
        pytest.skip("of the transformers engine alone")
    return replace(small, source=ModelSource(str(tiny_folder)))


@pytest.fixture(scope="session")
def tiny(request: pytest.FixtureRequest, tiny_folder: Path, hosted: bool) -> Iterator[Rig]:
    arguments = ("enforce-eager", "block-size=32", "max-num-batched-tokens=64")
    vllm = VllmSettings(str(tiny_folder), dtype="float32", slots=8, engine_args=arguments)
    rig = Rig(vllm if hosted else request.getfixturevalue("tiny_settings"))
    yield rig
    rig.close()


@pytest.fixture(scope="session")
def reference(tiny_folder: Path) -> LlamaForCausalLM:
    """Returns the same weights under transformers' own `generate`."""
    return LlamaForCausalLM.from_pretrained(tiny_folder).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def smollm2(device: str) -> Iterator[Rig]:
    """In float32 everywhere: then the same tokens come out alone and in any batch."""
    dtype = "auto" if device == "cpu" else "float32"
    rig = Rig(EngineSettings(device=device, dtype=dtype, max_model_len=2048, slots=12, threads=1))
    yield rig
    rig.close()
