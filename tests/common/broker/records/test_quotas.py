"""All that a tenant keeps is counted exactly, freed when it is deleted or expires."""

import asyncio
from functools import partial

import pytest

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.records.quotas import Quota
from millstream.common.broker.records.store import Record, RedisStore
from millstream.common.errors import QuotaExceeded
from tests.harness.support import wait_until

ANSWERS = Quota("answers", 3, 1000, ("most", "most_bytes"), "answers", "Delete some.")
FILES = Quota("files", 0, 1_000_000, ("", "most_file_bytes"), "files", "Delete some.")
QUOTAS = {"completion": ANSWERS, "response": ANSWERS, "file": FILES}


@pytest.fixture
def store(broker: Broker) -> RedisStore:
    return RedisStore(broker, QUOTAS)


def record(id: str, size: int = 10, counted: int | None = None) -> Record:
    return Record(id, 100, b"x" * size, counted)


async def fits(store: RedisStore, each: Record) -> bool:
    try:
        await store.put("a", "response", each, 60)
    except QuotaExceeded:
        return False
    return True


async def refused(store: RedisStore, kind: str, each: Record, naming: str) -> None:
    with pytest.raises(QuotaExceeded, match=naming):
        await store.put("a", kind, each, 60)
    assert await store.get("a", kind, each.id) is None


async def test_kinds_share_a_pool_and_tenants_do_not(store: RedisStore) -> None:
    await store.put("a", "completion", record("1"), 60)
    await store.put("a", "response", record("1"), 60)  # the same id is another object
    await store.check_room("a", "response")
    await store.put("a", "response", record("2"), 60)
    await refused(store, "completion", record("2"), "at most 3 answers .*`most`")
    with pytest.raises(QuotaExceeded):
        await store.check_room("a", "response")
    await store.put("b", "completion", record("2"), 60)
    await store.put("a", "batch", record("1"), 60)  # a kind without a quota


async def test_deleting_frees_and_writing_anew_does_not_count_twice(store: RedisStore) -> None:
    await store.put("a", "response", record("1", 900), 60)
    await store.put("a", "response", record("1", 950), 60)
    await refused(store, "response", record("2", 51), "1,000 bytes of answers .*`most_bytes`")
    await store.put("a", "response", record("2", 50), 60)
    await store.delete("a", "response", "1")
    await store.delete("a", "response", "1")
    await store.put("a", "response", record("3", 950), 60)


async def test_a_size_of_its_own_counts_and_what_must_be_kept_is(store: RedisStore) -> None:
    await store.put("a", "file", record("1", 10, counted=999_000), 60)
    await refused(store, "file", record("2", 10, counted=999_000), "bytes of files")
    await store.put("a", "file", record("2", 10, counted=999_000), 60, always=True)
    await store.put("a", "file", record("1", counted=999_500), 60, anew=True)
    await store.put("a", "file", record("gone", 900), 60, anew=True)  # not there, so not counted
    for id in ("1", "2"):
        await store.delete("a", "file", id)
    await store.put("a", "file", record("3", counted=1_000_000), 60)


async def test_time_frees_too_and_nothing_lives_for_ever(store: RedisStore, broker: Broker) -> None:
    for id in ("1", "2", "3"):
        await store.put("a", "response", record(id), 0.05 if id != "3" else 60)

    for id in ("4", "5"):  # one short-lived answer may expire before the other
        await wait_until(partial(fits, store, record(id)), what="a short-lived answer expires")
    await refused(store, "response", record("6"), "answers")
    for key in await broker.redis.keys("*"):
        assert 0 < await broker.redis.pttl(key) <= 60_000


async def test_a_hundred_at_once_are_never_one_too_many(store: RedisStore) -> None:
    puts = (store.put("a", "response", record(f"r{number}"), 60) for number in range(100))
    told = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(each is None for each in told) == 3 and all(
        each is None or isinstance(each, QuotaExceeded) for each in told
    )
    assert len(await store.list("a", "response", limit=500)) == 3
