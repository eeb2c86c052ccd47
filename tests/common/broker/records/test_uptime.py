"""Records that a server does not know which has just started."""

import asyncio

import pytest

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.records import uptime
from millstream.common.broker.records.batches import Batches
from millstream.common.broker.records.store import Record, RedisStore
from tests.harness.support import wait_until

RECORD = Record("resp_1", 1, b"{}")


async def test_a_record_that_is_written_again_is_waited_for(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uptime, "GRACE_MS", 10**9)  # every server is young
    store, batches = RedisStore(broker), Batches(broker)
    await broker.redis.config_resetstat()
    found = asyncio.create_task(store.get("a", "response", "resp_1"))
    state = asyncio.create_task(batches.state("batch_1"))
    await wait_until(lambda: looked(broker), what="both were looked for")
    assert not found.done() and not state.done()
    await store.put("a", "response", RECORD, 60)
    await batches.create("batch_1", {"tenant": "a"}, 1, 60)
    assert await found == RECORD
    assert (await state)["tenant"] == "a"


async def looked(broker: Broker) -> bool:
    """Each look at a young server asks for its age."""
    stats = await broker.redis.info("commandstats")
    return stats.get("cmdstat_info", {}).get("calls", 0) >= 6


async def test_an_old_server_is_believed_at_once(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uptime, "GRACE_MS", 0)
    assert await RedisStore(broker).get("a", "response", "resp_1") is None
    assert await Batches(broker).state("batch_1") == {}
