"""The settings of the vLLM engine. The worker's own settings class maps onto these fields one to one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from millstream.common.process.folders import default_cache_dir
from millstream.worker.engines.guide_limits import GuideLimits
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """One model on one vLLM. `None` means: vLLM decides."""

    model: str = SAMPLE_CHAT  # `smollm2` (bundled sample), a hub id or a local folder
    revision: str | None = None
    trust_remote_code: bool = False
    cache_dir: Path = field(default_factory=default_cache_dir)  # converted samples
    served_name: str | None = None  # None: the sample's name, else the last part of the model's id or path
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    chat_template: Path | None = None
    generation_config: Literal["auto", "none"] = "auto"  # whether the model's own sampling defaults count
    max_model_len: int | None = None  # tokens, prompt and completion together
    slots: int | None = None  # sequences that run at once: vLLM's --max-num-seqs
    step_tokens: int | None = None  # most tokens in one step: vLLM's --max-num-batched-tokens
    prefix_sharing: bool = True
    engine_args: tuple[str, ...] = ()  # vLLM's own flags, as `key=value`
    adapters: int = 0  # most LoRA adapters beside the model
    adapter_rank: int = 16  # their highest rank
    adapter_layers: tuple[str, ...] = ()  # last names of the layers that they change; empty: all that vLLM can
    guide_limits: GuideLimits = field(default_factory=GuideLimits)
