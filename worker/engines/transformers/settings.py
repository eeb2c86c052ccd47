"""The settings of the transformers engine. The worker's own settings class maps onto these fields one to one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from millstream.common.process.folders import default_cache_dir
from millstream.worker.engines.guide_limits import GuideLimits
from millstream.worker.engines.model_files.fetching.in_use import FolderMark
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT

SAMPLE_EMBEDDING = "all-minilm-l6-v2"

Quantization = Literal["8bit", "4bit", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The folder of the model's files, and the GGUF file in it if that is what to load. `hold` marks files that were
    fetched as used."""

    path: str
    name: str
    gguf: str | None = None
    revision: str = "local"
    hold: FolderMark | None = None

    @property
    def file(self) -> str:
        """Returns the path of the GGUF file itself, if it is one."""
        return str(Path(self.path) / self.gguf) if self.gguf else self.path


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The source of a model: `smollm2` (bundled sample), a hub id, a local folder or a GGUF file's path."""

    model: str = SAMPLE_CHAT
    revision: str | None = None
    source: Literal["hub", "modelscope"] = "hub"
    trust_remote_code: bool = False
    cache_dir: Path = field(default_factory=default_cache_dir)  # converted samples, and what no hub's library keeps
    place: ModelFiles | None = None  # where it lies, once that was found out


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """One model on one engine. `None` means: decided at load from the model and the machine."""

    source: ModelSource = ModelSource()
    served_name: str | None = None  # None: the sample's name, else the last part of the model's id or path
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps, xpu
    device_map: str | None = None  # accelerate's placement, as "auto" or "balanced"
    tensor_parallel: int = 1  # processes that share one model, each with its part of every layer
    max_gpu_memory: str | None = None  # per GPU, as "20GiB"
    quantization: Quantization | None = None
    adapters: bool = False  # whether LoRA adapters may come beside the model
    chat_template: Path | None = None
    generation_config: Literal["auto", "none"] = "auto"  # whether the model's own sampling defaults count
    max_model_len: int | None = None  # tokens, prompt and completion together
    slots: int | None = None  # sequences that run at once
    kv_tokens: int | None = None  # room of the key-value cache, in tokens of all sequences together
    page_size: int | None = None  # tokens of a cache page; only whole pages are shared between prompts
    step_tokens: int | None = None  # most tokens in one step: long prompts are split, running streams keep flowing
    prefix_sharing: bool = True
    batching: Literal["auto", "on", "off"] = "auto"
    threads: int | None = None  # CPU threads of torch
    guide_limits: GuideLimits = field(default_factory=GuideLimits)
