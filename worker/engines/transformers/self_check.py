"""A model's first two tokens, before it serves: what it computes in a batch must be what it computes by itself."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

import torch

from millstream.common.job import Sampling
from millstream.worker.engines.base import SequenceKey, SequenceSpec
from millstream.worker.engines.sampling.sequence import begin
from millstream.worker.engines.transformers.batching import BatchLoop
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS
from millstream.worker.engines.transformers.loading.load import Loaded
from millstream.worker.engines.transformers.loading.support import NotBatched

_TEXT = "Rain fills the stream, the stream turns the wheel, and the wheel turns the stone that grinds the corn. " * 4
_MOST = 64  # tokens: more than a page on CPUs
_ALIKE = 0.9  # correlation of the logits: rounding leaves 0.99 and more, a lost position or past much less


def try_out(batch: BatchLoop, loaded: Loaded) -> None:
    """Raises `NotBatched` if the batch fails, or computes something else than the model's own forward pass."""
    prompt = loaded.tokenizer.encode(_TEXT)[: max(0, min(_MOST, loaded.context_length - 2))]
    if not prompt:
        return
    sequence = begin(SequenceSpec(SequenceKey("trial"), prompt, Sampling(temperature=0), 2), frozenset(), None)
    try:
        ours = batch.try_out(sequence)
    except torch.OutOfMemoryError:
        raise
    except MODEL_ERRORS as error:
        raise NotBatched(type(loaded.model).__name__, f"fails there ({error})") from error
    with torch.no_grad(), batch.own_attention():
        ids = torch.tensor([[*prompt, *sequence.tokens[:-1]]], device=loaded.model.device)
        own = loaded.model(input_ids=ids).logits[0, -1].float()
    alike = float(torch.corrcoef(torch.stack((own, ours.to(own.device))))[0, 1])
    if not alike >= _ALIKE:
        why = f"computes something else there (correlation of the logits {alike:.2f})"
        raise NotBatched(type(loaded.model).__name__, why)
