"""Keys and values of several sequences, scattered over the pages of a cache, and what attention over them must give."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sizes:
    heads: int
    kv_heads: int
    width: int
    page: int


@dataclass(frozen=True)
class Scattered:
    """All tokens of each sequence except the newest are in its pages; the newest waits in `new`."""

    sizes: Sizes
    query: torch.Tensor
    new: tuple[torch.Tensor, torch.Tensor]
    pages: tuple[torch.Tensor, torch.Tensor]
    table: torch.Tensor
    ends: torch.Tensor
    whole: list[torch.Tensor]  # [2, tokens, kv heads, width] of each sequence
    scale: float

    def stored(self, i: int) -> torch.Tensor:
        """The newest token's key and value, as the cache has them."""
        page, slot = divmod(self.whole[i].shape[1] - 1, self.sizes.page)
        return torch.stack([pages[self.table[i, page], slot] for pages in self.pages])

    def expected(self, i: int) -> torch.Tensor:
        groups = self.sizes.heads // self.sizes.kv_heads
        keys, values = (x.float().repeat_interleave(groups, dim=1) for x in self.whole[i])
        weights = (torch.einsum("hd,thd->ht", self.query[i].float(), keys) * self.scale).softmax(-1)
        return torch.einsum("ht,thd->hd", weights, values)


def scattered(sizes: Sizes, lengths: list[int], device: torch.device, dtype: torch.dtype) -> Scattered:
    torch.manual_seed(len(lengths))
    most = max(1, max(-(-n // sizes.page) for n in lengths))
    order = torch.randperm(len(lengths) * most + 3).tolist()
    table = torch.full((len(lengths), most + 2), -1, dtype=torch.int32)
    shape = (len(order), sizes.page, sizes.kv_heads, sizes.width)
    pages = (torch.randn(shape).to(dtype), torch.randn(shape).to(dtype))
    whole = [torch.randn((2, n, sizes.kv_heads, sizes.width)).to(dtype) for n in lengths]
    for i, tokens in enumerate(whole):
        for at in range(0, tokens.shape[1], sizes.page):
            table[i, at // sizes.page] = page = order.pop()
            part = tokens[:, at : min(at + sizes.page, tokens.shape[1] - 1)]
            for kind in (0, 1):
                pages[kind][page, : part.shape[1]] = part[kind]
    last = torch.stack([x[:, -1] if x.shape[1] else torch.zeros(2, *x.shape[2:], dtype=dtype) for x in whole], dim=1)
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    query = torch.randn((len(lengths), sizes.heads, sizes.width)).to(dtype)
    move = [x.to(device) for x in (query, last[0], last[1], *pages, table, ends)]
    tokens = [x.to(device) for x in whole]
    new, cache = (move[1], move[2]), (move[3], move[4])
    return Scattered(sizes, move[0], new, cache, move[5], move[6], tokens, sizes.width**-0.5)
