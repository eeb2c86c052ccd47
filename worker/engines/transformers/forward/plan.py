"""Makes the loop of plain forward passes for a loaded model, and finds out how the model wants to be asked."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

from collections.abc import Callable
from functools import partial

import structlog

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.sampling.sequence import Sequence
from millstream.worker.engines.transformers.forward.loop import ForwardLoop
from millstream.worker.engines.transformers.forward.steps import (
    AdaptedSteps,
    DecoderSteps,
    EncodedSteps,
    Steps,
    traits_of,
)
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS
from millstream.worker.engines.transformers.loading.load import Loaded
from millstream.worker.engines.transformers.lora.rows import CurrentRows

SLOTS = 4  # each sequence takes the time of its own forward passes, so more only share it out
log = structlog.stdlib.get_logger(part="engine")


def forward_loop(
    loaded: Loaded,
    slots: int | None,
    deliver: Callable[[list[Sequence]], None],
    broken: Callable[[BaseException], None],
    rows: CurrentRows | None = None,
) -> ForwardLoop:
    """Tries the model with a few tokens and returns its loop. `rows`: where layers with adapters learn whose rows they
    compute. Raises `LoadFailed` for a model that cannot be asked by its tokens alone."""
    try:
        begin = _encoded(loaded) if loaded.encodes else _decoded(loaded)
        vocabulary = begin().read([1, 2, 3]).shape[0]
    except MODEL_ERRORS as error:
        raise LoadFailed(
            f"{type(loaded.model).__name__} cannot be run by its tokens alone: {error}", param="model"
        ) from error
    log.warning("not_batched", model=loaded.name, why=loaded.unbatched, slots=slots or SLOTS)

    def begin_with(adapter: str) -> Steps:
        return begin() if rows is None or not adapter else AdaptedSteps(begin(), rows, adapter)

    return ForwardLoop(loaded.model.device, vocabulary, slots or SLOTS, begin_with, deliver, broken)


def _decoded(loaded: Loaded) -> Callable[[], Steps]:
    return partial(DecoderSteps, loaded.model, traits_of(loaded.model))


def _encoded(loaded: Loaded) -> Callable[[], Steps]:
    own, config = getattr(loaded.model, "generation_config", None), loaded.model.config
    first = getattr(own, "decoder_start_token_id", None)
    first = getattr(config, "decoder_start_token_id", None) if first is None else first
    first = getattr(own, "bos_token_id", None) if first is None else first
    if not isinstance(first, int):
        raise LoadFailed("The model does not tell the token that its decoder begins with (`decoder_start_token_id`).")
    return partial(EncodedSteps, loaded.model, first, getattr(own, "forced_bos_token_id", None))
