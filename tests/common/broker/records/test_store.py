"""Stored records: put, got, listed, deleted, expired."""

import pytest

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.records.store import PAGE, Record, RedisStore
from tests.harness.support import wait_until


@pytest.fixture
def store(broker: Broker) -> RedisStore:
    return RedisStore(broker)


def record(id: str, created: int = 100) -> Record:
    return Record(id, created, b'{"text":"\xc3\xa4"}')


async def test_a_record_is_its_tenants_and_its_kinds(store: RedisStore) -> None:
    await store.put("a", "file", record("f1"), 60)
    assert await store.get("a", "file", "f1") == record("f1")
    assert await store.get("b", "file", "f1") is None
    assert await store.get("a", "response", "f1") is None
    assert await store.list("b", "file") == []
    assert not await store.delete("b", "file", "f1")
    assert await store.delete("a", "file", "f1")
    assert not await store.delete("a", "file", "f1")
    assert await store.get("a", "file", "f1") is None and await store.list("a", "file") == []


async def test_lists_are_by_time_then_id_and_paged(store: RedisStore) -> None:
    made = [record(f"f{index:03}", 100 + index // 3) for index in range(PAGE + 20)]
    for each in reversed(made):
        await store.put("a", "file", each, 60)
    assert await store.list("a", "file", limit=500) == made
    assert await store.list("a", "file", limit=500, descending=True) == made[::-1]
    assert await store.list("a", "file", limit=2, after="f004") == made[5:7]
    assert await store.list("a", "file", limit=2, after="f004", descending=True) == [made[3], made[2]]
    assert await store.list("a", "file", limit=1, after="unknown") == made[:1]
    assert await store.list("a", "file", after="f119") == []


async def test_what_has_expired_leaves_the_lists_and_nothing_lives_for_ever(store: RedisStore, broker: Broker) -> None:
    await store.put("a", "file", record("short"), 0.02)
    await store.put("a", "file", record("long"), 60)
    await store.put("a", "file", record("short2"), 0.02)
    await wait_until(lambda: _gone(store), what="the short-lived records expire")
    assert [each.id for each in await store.list("a", "file", limit=1)] == ["long"]
    for key in await broker.redis.keys("*"):
        assert 0 < await broker.redis.pttl(key) <= 60_000
    assert await broker.redis.zcard("ms:{tenant:a}:index:file") == 1


async def _gone(store: RedisStore) -> bool:
    return not await store.get("a", "file", "short") and not await store.get("a", "file", "short2")
