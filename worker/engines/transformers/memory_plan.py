"""The plan of the memory: slots, cache pages and tokens per step, from the settings, the model and the machine."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

from dataclasses import dataclass
from math import ceil

from transformers import ContinuousBatchingConfig

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.loading.device import free_memory
from millstream.worker.engines.transformers.loading.load import Loaded
from millstream.worker.engines.transformers.settings import EngineSettings

_CPU_SHARE = 0.25  # of the free memory for the cache: the machine does other things too
_CPU_STEP = 128  # reading a long prompt then holds running streams up for some tenths of a second at a time
_USUAL_LENGTH = 1024  # tokens a slot is planned for; longer sequences share, the last wait when it gets tight


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The largest size that the batch may have."""

    slots: int
    page_size: int
    pages: int | None  # None: the library takes what the GPU has left
    step_tokens: int
    context: int  # tokens of the longest sequence
    prefix_sharing: bool

    def config(self) -> ContinuousBatchingConfig:
        """Returns the plan as the library wants it; `plan_graphs` settles what depends on the attention."""
        return ContinuousBatchingConfig(
            page_size=self.page_size,
            num_blocks=self.pages,
            max_memory_percent=0.8 if self.pages is None else None,  # the sampler needs room for vocabularies
            max_batch_tokens=self.step_tokens,
            max_requests_per_batch=self.slots,
            allow_block_sharing=self.prefix_sharing,
            use_async_batching=False,
            safety_margin=0.0,
        )


def plan_memory(settings: EngineSettings, loaded: Loaded) -> MemoryPlan:
    """Raises `LoadFailed` if not even one sequence of full length fits."""
    on_cpu = loaded.model.device.type == "cpu"
    slots = settings.slots or (16 if on_cpu else 64)
    page = settings.page_size or (32 if on_cpu else 256)
    return MemoryPlan(
        slots=slots,
        page_size=page,
        pages=_pages(settings, loaded, slots, page) if on_cpu or settings.kv_tokens else None,
        step_tokens=max(settings.step_tokens or (_CPU_STEP if on_cpu else 2048), slots),
        context=loaded.context_length,
        prefix_sharing=settings.prefix_sharing,
    )


def _pages(settings: EngineSettings, loaded: Loaded, slots: int, page: int) -> int:
    per_token = bytes_per_token(loaded)
    sharing = 1 if loaded.ranks is None else loaded.ranks.size  # each rank has such a cache, for its own heads
    most = int(free_memory(loaded.model.device) * _CPU_SHARE) // (per_token * sharing)
    wanted = settings.kv_tokens or min(max(loaded.context_length, slots * _USUAL_LENGTH), most)
    if wanted < loaded.context_length:
        raise LoadFailed(
            f"The cache has room for {wanted} tokens, less than one sequence of {loaded.context_length}: "
            f"lower --max-model-len, or raise --kv-tokens ({per_token / 1024:.1f} KiB a token).",
            param="kv_tokens",
        )
    return ceil(wanted / page) + 1


def bytes_per_token(loaded: Loaded) -> int:
    """Returns the bytes of keys and values of all layers for one token."""
    config = loaded.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * loaded.model.dtype.itemsize
