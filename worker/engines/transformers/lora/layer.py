"""A linear layer with any number of LoRA adapters beside it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch publishes partly unknown types)

from itertools import accumulate

import torch
from torch import nn

from millstream.worker.engines.model_files.adapters.folder import LowRank
from millstream.worker.engines.transformers.lora.rows import CurrentRows, Layout, MixedRows


class AdaptedLinear(nn.Module):
    """Computes `y = inner(x) + up(down(x))`, for each row with the pair of its own adapter. `inner` may be a plain, a
    packed or a quantised layer."""

    def __init__(self, inner: nn.Module, rows: CurrentRows, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self._rows = rows
        self._device = device
        self._dtype = dtype
        self._layout: Layout = ()
        self._spans: dict[str, slice] = {}  # of each adapter in the ranks of all
        self._down = torch.empty(0)  # [ranks of all, in]
        self._up = torch.empty(0)  # [ranks of all, out]

    @property
    def adapters(self) -> list[str]:
        return list(self._spans)

    @property
    def memory(self) -> int:
        """Returns the bytes of all pairs here."""
        return self._down.nbytes + self._up.nbytes

    def put(self, adapter: str, pair: LowRank) -> None:
        """Adds an adapter's pair. Raises what torch raises where memory is short; then nothing has changed."""
        down, up = pair.down.to(self._device, self._dtype), pair.up.T.to(self._device, self._dtype)
        downs = torch.cat([self._down, down] if self._layout else [down])
        ups = torch.cat([self._up, up] if self._layout else [up])
        self._down, self._up = downs, ups
        self._note((*self._layout, (adapter, pair.down.shape[0])))

    def drop(self, adapter: str) -> None:
        """Takes an adapter's pair away; unknown ones are fine."""
        if adapter not in self._spans:
            return
        layout = tuple(each for each in self._layout if each[0] != adapter)
        kept = [self._spans[each] for each, _ in layout]
        self._down = torch.cat([self._down[span] for span in kept]) if kept else torch.empty(0)
        self._up = torch.cat([self._up[span] for span in kept]) if kept else torch.empty(0)
        self._note(layout)

    def _note(self, layout: Layout) -> None:
        ends = list(accumulate(rank for _, rank in layout))
        self._layout = layout
        self._spans = {adapter: slice(end - rank, end) for (adapter, rank), end in zip(layout, ends, strict=True)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        step = self._rows.step
        if step is None:
            return y
        read, written = x.reshape(-1, x.shape[-1]).to(self._down.dtype), y.reshape(-1, y.shape[-1])
        if read.shape[0] < step.count:
            raise RuntimeError(f"a layer with adapters was given {read.shape[0]} of the step's {step.count} tokens")
        for adapter, rows in step.groups:
            if (span := self._spans.get(adapter)) is not None:
                written[rows] += (read[rows] @ self._down[span].T @ self._up[span]).to(y.dtype)
        if (mixed := step.mixed_in(self._layout)) is not None:
            written[mixed.rows] += self._mixed(read[mixed.rows], mixed).to(y.dtype)
        return written.view(y.shape)

    def _mixed(self, read: torch.Tensor, mixed: MixedRows) -> torch.Tensor:
        """Returns what is added to rows of several adapters. What another adapter than its own makes of a row is put
        out, not multiplied by zero: it may be no number."""
        down, up = self._down, self._up
        if mixed.ranks is not None:
            down, up = down[mixed.ranks], up[mixed.ranks]
        return (read @ down.T).masked_fill_(mixed.foreign, 0) @ up
