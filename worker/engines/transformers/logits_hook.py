"""The hook at which the library expects its logits processors: who is in the batch, and the logits of its newest
tokens."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.generation.continuous_batching.utils import stream_context

from millstream.worker.engines.sampling.sequence import Sequence
from millstream.worker.engines.transformers.lora.rows import CurrentRows


class LogitsHook:
    """Holds the logits that a step sets and that are read after it."""

    do_processing = True
    tensors_required = 0

    def __init__(self, slots: int, vocabulary: int, device: torch.device) -> None:
        self.requests: list[Any] = []
        self.batch: list[Sequence] = []
        self.logits = torch.empty(0)
        self.on_batch: Callable[[], None] | None = None  # called when all of a step's sequences are known
        # Inside a captured graph the logits' memory is reused, so on GPUs they are copied to a place of their own.
        self._static = None if device.type == "cpu" else torch.empty((slots, vocabulary), device=device)

    @contextmanager
    def rows_in(self, rows: CurrentRows | None, stream: Any) -> Generator[None]:
        """Tells `rows`, for one forward pass, whose rows the packed batch has; `stream` computes it."""
        if rows is None:
            yield
            return
        spans = [(_adapter_of(future), int(future.query_length)) for future in self.requests]
        with stream_context(stream), rows.packed(spans):
            yield

    def check_kwargs(self, kwargs: dict[str, Any]) -> None: ...

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None: ...

    def prepare_tensor_args(self, requests_in_batch: list[Any], arg_storage: torch.Tensor) -> torch.Tensor:
        self.requests = requests_in_batch
        self.batch = []
        if self.on_batch is not None:
            self.on_batch()
        for future in requests_in_batch:
            sequence: Sequence | None = getattr(future.state, "sequence", None)
            if sequence is None:  # a warm-up's dummy
                continue
            if sequence.cached is None:
                found = future.state.position_offset - future.query_length
                sequence.cached = min(found, len(sequence.spec.prompt))
            if future.has_new_token:
                self.batch.append(sequence)
        return arg_storage

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, args: torch.Tensor) -> torch.Tensor:
        if self._static is None:
            self.logits = scores
        else:
            self.logits = self._static
            self._static[: scores.shape[0]].copy_(scores)
        return scores


def _adapter_of(future: Any) -> str:
    sequence: Sequence | None = getattr(future.state, "sequence", None)  # a warm-up's dummy has none
    return "" if sequence is None else sequence.spec.adapter
