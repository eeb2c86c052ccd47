"""A linear layer with any number of LoRA adapters beside it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch publishes partly unknown types)

import torch
from torch import nn

from millstream.worker.engines.transformers.lora.folder import LowRank
from millstream.worker.engines.transformers.lora.rows import CurrentRows


class AdaptedLinear(nn.Module):
    """Computes `y = inner(x) + up(down(x))`, for each row with the pair of its own adapter. `inner` may be a plain, a
    packed or a quantised layer. Pairs of a smaller rank than the largest here are filled up with zeros."""

    def __init__(self, inner: nn.Module, rows: CurrentRows, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self._rows = rows
        self._device = device
        self._dtype = dtype
        self._ranks: dict[str, int] = {}  # by adapter, in the order of the stacks
        self._places: dict[str, int] = {}
        self._order: tuple[str, ...] = ()
        self._down = torch.empty(0)  # [adapters, in, rank]
        self._up = torch.empty(0)  # [adapters, rank, out]

    @property
    def adapters(self) -> tuple[str, ...]:
        return self._order

    @property
    def memory(self) -> int:
        """Returns the bytes of all pairs here."""
        return self._down.nbytes + self._up.nbytes

    def put(self, adapter: str, pair: LowRank) -> None:
        """Adds an adapter's pair. Raises what torch raises where memory is short; then nothing has changed."""
        rank = max(pair.down.shape[0], *self._ranks.values(), 0)
        down, up = (half.T.unsqueeze(0).to(self._device, self._dtype) for half in (pair.down, pair.up))
        stacks = ([self._down], [self._up]) if self._order else ([], [])
        downs = torch.cat([_filled(each, rank, 2) for each in (*stacks[0], down)])
        ups = torch.cat([_filled(each, rank, 1) for each in (*stacks[1], up)])
        self._down, self._up = downs, ups
        self._note({**self._ranks, adapter: pair.down.shape[0]})

    def drop(self, adapter: str) -> None:
        """Takes an adapter's pair away; unknown ones are fine."""
        if adapter not in self._ranks:
            return
        ranks = {each: rank for each, rank in self._ranks.items() if each != adapter}
        kept = [self._places[each] for each in ranks]
        rank = max(ranks.values(), default=0)
        self._down, self._up = self._down[kept][:, :, :rank].contiguous(), self._up[kept][:, :rank].contiguous()
        self._note(ranks)

    def _note(self, ranks: dict[str, int]) -> None:
        self._ranks, self._order = ranks, tuple(ranks)
        self._places = {adapter: place for place, adapter in enumerate(ranks)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        step = self._rows.step
        if step is None:
            return y
        read, written = x.reshape(-1, x.shape[-1]).to(self._down.dtype), y.reshape(-1, y.shape[-1])
        if read.shape[0] < step.count:
            raise RuntimeError(f"a layer with adapters was given {read.shape[0]} of the step's {step.count} tokens")
        for adapter, rows in step.groups:
            if (place := self._places.get(adapter)) is not None:
                written[rows] += (read[rows] @ self._down[place] @ self._up[place]).to(y.dtype)
        if (few := step.few_of(self._order)) is not None:
            rows, places = few
            change = read[rows].unsqueeze(1) @ self._down[places] @ self._up[places]
            written.index_add_(0, rows, change.squeeze(1).to(y.dtype))
        return written.view(y.shape)


def _filled(stack: torch.Tensor, rank: int, axis: int) -> torch.Tensor:
    """Returns the stack with zeros up to `rank` along `axis`."""
    missing = rank - stack.shape[axis]
    if not missing:
        return stack
    shape = list(stack.shape)
    shape[axis] = missing
    return torch.cat([stack, stack.new_zeros(shape)], axis)
