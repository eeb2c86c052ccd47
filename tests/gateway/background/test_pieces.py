"""The pure parts: lines cut from blocks, names that repeat, how many lines are in flight, what leaves Redis when."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import ModelInfo, WorkerInfo
from millstream.common.broker.records.batches import Batches
from millstream.common.errors import BadRequest
from millstream.common.job import ModelName, WorkerId
from millstream.gateway.background.batches.concurrency import LEAST, lines_in_flight
from millstream.gateway.background.batches.endpoints import LineReader
from millstream.gateway.background.batches.lines import LineFault, RawLine, raw_lines
from millstream.gateway.background.batches.parts import FLUSH
from millstream.gateway.background.batches.running import WINDOW, SliceProgress
from millstream.gateway.background.batches.validating import Findings, Validation
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.records.batches import window_seconds
from millstream.gateway.services.aliases import parse_aliases


async def blocks(text: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


async def read(text: bytes, size: int, offset: int = 0, longest: int = 100) -> list[RawLine]:
    return [line async for line in raw_lines(blocks(text[offset:], size), offset, longest)]


@given(st.lists(st.binary(max_size=12)), st.integers(1, 9))
async def test_any_blocks_give_the_same_lines_and_any_end_is_a_place_to_go_on(parts: list[bytes], size: int) -> None:
    text = b"\n".join(parts)
    lines = await read(text, size)
    assert [line.text for line in lines] == [part for part in text.split(b"\n") if part.strip()]
    for at, line in enumerate(lines):
        rest = await read(text, size, offset=line.end)
        assert [each.text for each in rest] == [each.text for each in lines[at + 1 :]]


async def test_a_line_without_end_is_not_read_into_memory() -> None:
    with pytest.raises(LineFault, match="Line 2 is longer than 100 bytes"):
        await read(b"short\n" + b"x" * 1000, 64)


@given(st.integers(1, 30))
async def test_a_line_is_too_long_wherever_the_blocks_end(size: int) -> None:
    assert len(await read(b"x" * 20 + b"\n" + b"y" * 20, size, longest=20)) == 2
    for text in (b"x" * 21 + b"\ny", b"x\n" + b"y" * 21):
        with pytest.raises(LineFault):
            await read(text, size, longest=20)


async def findings(body: str, key: ApiKey, aliases: list[str]) -> Findings:
    known = frozenset((ModelName("big"), ModelName("small")))
    resolve = partial(parse_aliases(aliases).resolve, known=known)
    reception = LineReader("/v1/completions", lambda: key, BackgroundSettings(max_body_bytes=1024), resolve)
    line = f'{{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {body}}}\n'
    return await Validation(reception, known, 10).check(blocks(line.encode(), 64))


async def test_a_served_model_is_itself_beside_a_catch_all() -> None:
    anyone = ApiKey("", "a")
    assert (await findings('{"model": "small"}', anyone, ["*=big"])).model == "small"
    assert (await findings('{"model": "other"}', anyone, ["*=big"])).model == "big"


async def test_faults_that_are_not_in_the_body() -> None:
    narrow = ApiKey("key_1", "a", models=("big",))
    [fault] = (await findings('{"model": "small"}', narrow, [])).faults
    assert (fault["code"], fault["param"], fault["line"]) == ("forbidden", "body.model", 1)
    [fault] = (await findings(f'{{"model": "{"x" * 1024}"}}', narrow, [])).faults
    assert (fault["code"], fault["line"]) == ("line_too_long", 1)


def busy(slots: int, load: int, waiting: int) -> ModelInfo:
    worker = WorkerInfo(WorkerId("w"), ModelName("m"), alive=True, load=load, slots=slots, speed=1.0)
    return ModelInfo(ModelName("m"), [worker], waiting)


@pytest.mark.parametrize(
    ("ours", "model", "wanted"),
    [
        (0, busy(8, load=0, waiting=0), 16),  # idle: fill the slots, and as many to wait
        (16, busy(8, load=8, waiting=8), 16),  # steady
        (0, busy(8, load=8, waiting=0), 8),  # others run: wait after them
        (4, busy(8, load=8, waiting=50), LEAST),  # others wait: hold back
        (0, busy(1000, load=0, waiting=0), 512),
        (5, busy(0, load=0, waiting=0), LEAST),
        (5, None, LEAST),
    ],
)
def test_lines_in_flight_follow_the_free_slots(ours: int, model: ModelInfo | None, wanted: int) -> None:
    assert lines_in_flight(ours, model, most=512) == wanted


def test_answers_leave_redis_in_order_and_in_whole_parts_until_the_end() -> None:
    progress = SliceProgress(flushed=10, recorded=set(range(10, 10 + FLUSH - 1)), fed=10 + FLUSH + 5)
    progress.ends = {line: line * 10 for line in range(10, progress.fed)}
    assert progress.flushable() == 10  # one is missing
    progress.recorded.add(10 + FLUSH - 1)
    assert progress.flushable() == 10 + FLUSH
    progress.flushed = 10 + FLUSH
    assert progress.flushable() == progress.flushed and not progress.done
    progress.recorded |= set(range(progress.flushed, progress.fed))
    progress.at_end = True
    assert progress.flushable() == progress.fed
    assert not progress.room_for(progress.flushed + WINDOW)


def test_windows() -> None:
    assert [window_seconds(text) for text in ("24h", "30s", "5m", "14d")] == [86400, 30, 300, 14 * 86400]
    for wrong in ("", "24", "0h", "15d", "-1h", "h"):
        with pytest.raises(BadRequest, match="completion_window"):
            window_seconds(wrong)


async def test_a_batch_has_one_holder_whose_grant_fences_the_others(redis_url: str) -> None:
    async with Broker(redis_url) as broker:
        batches = Batches(broker)
        await batches.create("b", {"tenant": "a"}, 1, 60)
        assert await batches.idle() == [("b", "0")]
        first = await batches.hold("b", "one", 60)
        assert first is not None and await batches.hold("b", "two", 60) is None and await batches.idle() == []
        again = await batches.hold("b", "one", 0)  # lets go
        second = await batches.hold("b", "two", 60)
        assert again is not None and second is not None and second.grant == first.grant + 1
        assert not await batches.record("b", first.grant, [])
        assert not await batches.flush("b", first.grant, (0, 1), 9, b"{}")
        assert await batches.move("b", ("validating",), "failed", {}, first.grant) == (False, "validating")
        assert await batches.flush("b", second.grant, (0, 1), 9, b"{}")
        assert await batches.flush("b", second.grant, (0, 1), 9, b"{}")  # told again
        assert not await batches.flush("b", second.grant, (0, 2), 9, b"{}")
        assert await batches.parts("b") == [b"{}"]
        assert await batches.hold("none", "one", 60) is None
