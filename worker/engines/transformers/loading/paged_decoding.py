"""One new token of each of many sequences, against the pages of its own sequence: Triton kernels for NVIDIA GPUs.

Imported only where there is such a GPU. All sizes a kernel depends on are those of the tensors, never those of the
sequences, so that a captured graph is right for any batch of its size.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportOperatorIssue=false, reportIndexIssue=false
# (triton is not installed where this is checked, and its functions are no Python)

import torch
import triton
import triton.language as tl

_TILE = 64  # tokens read at once
_PROGRAMS = 528  # enough to fill a large GPU: four for each of 132 multiprocessors
_MOST_PARTS = 32  # of one sequence, read at the same time

Pair = tuple[torch.Tensor, torch.Tensor]


def attend(
    query: torch.Tensor, new: Pair, pages: Pair, table: torch.Tensor, ends: torch.Tensor, scale: float
) -> torch.Tensor:
    """Write the `new` keys and values `[n, kv heads, width]` to their places in `pages`
    `[pages, page size, kv heads, width]`, then attend with `query` `[n, heads, width]`. Row i's sequence has
    `ends[i + 1] - ends[i]` tokens, the new one among them, in the pages `table[i]`; a row of none gives zeros."""
    n, heads, width = query.shape
    _, size, kv_heads, _ = pages[0].shape
    lanes = triton.next_power_of_2(width)
    key, value = new
    strides = (*key.stride()[:2], *value.stride()[:2])
    _store[(n, kv_heads)](key, value, *pages, table, ends, table.stride(0), *strides, size, kv_heads, width, lanes)
    parts = min(_MOST_PARTS, triton.next_power_of_2(triton.cdiv(_PROGRAMS, n * kv_heads)))
    partial = torch.empty((n, heads, parts, width), dtype=torch.float32, device=query.device)
    weights = torch.empty((n, heads, parts), dtype=torch.float32, device=query.device)
    group = heads // kv_heads
    rows = max(16, triton.next_power_of_2(group))
    places = (table, ends, table.stride(0), *query.stride()[:2])
    sizes = (size, kv_heads, group, rows, width, lanes, parts, _TILE)
    _attend[(n, kv_heads, parts)](query, *pages, partial, weights, *places, scale, *sizes)
    told = torch.empty((n, heads, width), dtype=query.dtype, device=query.device)
    _join[(n, heads)](partial, weights, told, heads, width, lanes, parts)
    return told


# The newest key and value of one row and key head, to their place in the row's pages.
@triton.jit
def _store(
    key, value, key_pages, value_pages, table, ends, table_stride,
    key_row, key_head, value_row, value_head,
    SIZE: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    head = tl.program_id(1)
    at = tl.load(ends + row + 1) - tl.load(ends + row) - 1
    if at >= 0:
        page = tl.load(table + row * table_stride + at // SIZE).to(tl.int64)
        lane = tl.arange(0, LANES)
        inside = lane < WIDTH
        place = ((page * SIZE + at % SIZE) * HEADS + head) * WIDTH + lane
        tl.store(key_pages + place, tl.load(key + row * key_row + head * key_head + lane, mask=inside), mask=inside)
        found = tl.load(value + row * value_row + head * value_head + lane, mask=inside)
        tl.store(value_pages + place, found, mask=inside)


# One part of one sequence, for the queries that share a key head.
@triton.jit
def _attend(
    query, key_pages, value_pages, partial, weights, table, ends, table_stride, query_row, query_head, scale,
    SIZE: tl.constexpr, HEADS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    WIDTH: tl.constexpr, LANES: tl.constexpr, PARTS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    head = tl.program_id(1)
    part = tl.program_id(2)
    length = tl.load(ends + row + 1) - tl.load(ends + row)
    share = tl.cdiv(tl.cdiv(length, PARTS), TILE) * TILE
    start = part * share
    end = tl.minimum(start + share, length)
    member = tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    mine = (member < GROUP)[:, None] & (lane < WIDTH)[None, :]
    asked = query + row * query_row + (head * GROUP + member)[:, None] * query_head + lane[None, :]
    q = tl.load(asked, mask=mine, other=0.0)
    most = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, LANES], tl.float32)
    for tile in range(start, end, TILE):
        token = tile + tl.arange(0, TILE)
        there = token < end
        page = tl.load(table + row * table_stride + token // SIZE, mask=there, other=0).to(tl.int64)
        place = ((page * SIZE + token % SIZE) * HEADS + head) * WIDTH
        wanted = there[:, None] & (lane < WIDTH)[None, :]
        k = tl.load(key_pages + place[:, None] + lane[None, :], mask=wanted, other=0.0)
        scores = tl.dot(q, tl.trans(k)) * scale
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        fade = tl.exp(most - higher)
        p = tl.exp(scores - higher[:, None])
        v = tl.load(value_pages + place[:, None] + lane[None, :], mask=wanted, other=0.0)
        sums = sums * fade[:, None] + tl.dot(p.to(v.dtype), v)
        total = total * fade + tl.sum(p, 1)
        most = higher
    place = (row * HEADS * GROUP + head * GROUP + member) * PARTS + part
    tl.store(partial + place[:, None] * WIDTH + lane[None, :], sums / tl.maximum(total, 1e-30)[:, None], mask=mine)
    tl.store(weights + place, tl.where(total > 0, most + tl.log(total), float("-inf")), mask=member < GROUP)


# The parts of one row and head, each by the weight of its tokens.
@triton.jit
def _join(
    partial, weights, told,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * HEADS + tl.program_id(1)
    part = tl.arange(0, PARTS)
    lane = tl.arange(0, LANES)
    weight = tl.load(weights + place * PARTS + part)
    most = tl.max(weight, 0)
    share = tl.exp(weight - tl.where(most > float("-inf"), most, 0.0))
    share = share / tl.maximum(tl.sum(share, 0), 1e-30)
    inside = lane < WIDTH
    found = partial + (place * PARTS + part)[:, None] * WIDTH + lane[None, :]
    values = tl.load(found, mask=inside[None, :] & (part >= 0)[:, None], other=0.0)
    tl.store(told + place * WIDTH + lane, tl.sum(values * share[:, None], 0).to(told.dtype.element_ty), mask=inside)
