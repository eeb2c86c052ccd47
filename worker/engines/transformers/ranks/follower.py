"""A rank that only steps: it reads its part of the model and runs each forward pass that rank 0 tells it.

python -m millstream.worker.engines.transformers.ranks.follower RANK SIZE PORT    # as rank 0 starts it
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false
# pyright: reportPrivateUsage=false
# (torch and transformers publish partly unknown types)

import os
import signal
import sys
from datetime import timedelta
from threading import Thread

import structlog
import torch
import torch.distributed as dist
from transformers import PreTrainedModel
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.distributed import DistributedHelper
from transformers.utils.logging import disable_progress_bar

from millstream.common.errors import MillstreamError
from millstream.common.telemetry import configure
from millstream.worker.engines.transformers.loading.attention import CPU_ATTENTION, layer_views
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS
from millstream.worker.engines.transformers.loading.gpu_attention import GPU_ATTENTION
from millstream.worker.engines.transformers.ranks.messages import (
    BACKENDS,
    PATIENCE,
    CacheSize,
    ForwardPass,
    OwnState,
    RanksEnd,
    Share,
    hear,
    unpacked,
)
from millstream.worker.engines.transformers.ranks.shard import read_shard

_OURS = (CPU_ATTENTION, GPU_ATTENTION)  # known to the library once their modules are imported

log = structlog.stdlib.get_logger(part="rank")


def follow_torchrun() -> int:
    """Runs as one of torchrun's later ranks until rank 0 ends; returns the exit status."""
    backend = BACKENDS["cuda" if torch.cuda.is_available() else "cpu"]
    dist.init_process_group(backend, init_method="env://", timeout=PATIENCE)
    return follow()


def follow() -> int:
    """Steps as rank 0 says, until it ends; returns the exit status. Signals to stop are for rank 0, which drains."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    disable_progress_bar()
    try:
        share = hear()
        assert isinstance(share, Share)
        _step(read_shard(share))
    except (*MODEL_ERRORS, OSError, MillstreamError) as error:
        log.error("rank_failed", rank=dist.get_rank(), error=str(error))
        return 1
    return 0


@torch.no_grad()
def _step(model: PreTrainedModel) -> None:
    own = OwnState(model.device)
    while not isinstance(message := hear(), RanksEnd):
        match message:
            case CacheSize():
                own.cache = None  # before the next takes its place
                own.cache = _cache_of(model, message)
                own.layers = layer_views(own.cache) if len(own.cache.cache_allocators) == 1 else {}
            case ForwardPass():
                if message.attention != model.config._attn_implementation:
                    model.set_attn_implementation(message.attention)
                model(*unpacked(message.args, own), **unpacked(message.kwargs, own))
            case Share():
                raise RuntimeError("Rank 0 told of a second model.")


def _cache_of(model: PreTrainedModel, size: CacheSize) -> PagedAttentionCache:
    keeps = getattr(model, "_supports_logits_to_keep", None)
    return PagedAttentionCache(
        config=model.config.get_text_config(),
        continuous_batching_config=size.config,
        device=model.device,
        distributed_helper=DistributedHelper(None, None),
        dtype=model.dtype,
        model_supports_logits_to_keep=callable(keeps) and bool(keeps()),
    )


def _die_with_rank_0() -> None:
    """Waits for the end of the standard input, which rank 0 holds open as long as it lives."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    rank, size, port = map(int, sys.argv[1:4])
    Thread(target=_die_with_rank_0, daemon=True).start()
    configure("auto", "warning", {"rank": str(rank)})
    store = dist.TCPStore("127.0.0.1", port, size, False, timedelta(minutes=5), wait_for_workers=False)
    store.set(f"here/{rank}", "")
    backend = BACKENDS["cuda" if torch.cuda.is_available() else "cpu"]
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    raise SystemExit(follow())


if __name__ == "__main__":
    main()
