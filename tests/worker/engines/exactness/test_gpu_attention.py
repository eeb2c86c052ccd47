"""Attention over pages on GPUs is softmax(q·k)·v. Without a GPU, `TRITON_INTERPRET=1` runs the kernels on the CPU."""

import os

import pytest
import torch

from tests.worker.engines.paging import Sizes, scattered

pytest.importorskip("triton")


@pytest.fixture
def place(device: str) -> torch.device:
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton's kernels need a GPU, or TRITON_INTERPRET=1")
    return torch.device("cuda" if device != "cpu" else "cpu")


SIZES = [
    Sizes(heads=4, kv_heads=2, width=16, page=16),
    Sizes(heads=32, kv_heads=8, width=128, page=256),
    Sizes(heads=9, kv_heads=3, width=64, page=32),
    Sizes(heads=5, kv_heads=1, width=80, page=48),
]
LENGTHS = [[1], [70], [3, 0, 16, 17, 200, 1, 129], [513] * 3 + [0] * 5]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_step_of_single_tokens_sees_its_own_pages(place: torch.device, sizes: Sizes, lengths: list[int]) -> None:
    from millstream.worker.engines.transformers.loading.paged_decoding import attend

    dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    case = scattered(sizes, lengths, place, dtype)
    told = attend(case.query, case.new, case.pages, case.table, case.ends, case.scale)
    for i, length in enumerate(lengths):
        if length == 0:  # a row that only fills a captured graph up
            assert not told[i].any()
            continue
        assert torch.equal(case.stored(i), torch.stack([x[i] for x in case.new]))
        assert torch.allclose(told[i].float(), case.expected(i), atol=2e-2 if dtype == torch.bfloat16 else 2e-4)


def test_nothing_but_its_own_place_is_written(place: torch.device) -> None:
    from millstream.worker.engines.transformers.loading.paged_decoding import attend

    case = scattered(SIZES[0], [3, 0, 16, 33], place, torch.float32 if place.type == "cpu" else torch.bfloat16)
    before = [pages.clone() for pages in case.pages]
    attend(case.query, case.new, case.pages, case.table, case.ends, case.scale)
    for was, now in zip(before, case.pages, strict=True):
        assert int((was != now).any(-1).any(-1).sum()) == 3
