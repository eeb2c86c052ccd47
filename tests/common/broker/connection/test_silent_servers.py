"""A look at many servers does not wait again for one that has just been silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.common.broker.connection import by_server
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.by_server import ask, look_at_each
from millstream.common.broker.models.inspection import server_figures
from millstream.common.job import ModelName

HERE, THERE = ModelName("here"), ModelName("there")


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that takes connections and never answers."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        yield f"redis://user:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


async def test_it_is_away_and_is_let_be_for_a_while(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_server, "PATIENCE", 0.1)
    async with silent() as url, Broker(redis_url, model_redis=f"there={url}") as broker:
        asked: list[ModelName] = []

        async def look(model: ModelName) -> str:
            asked.append(model)
            await broker.of(model).ping()
            return "seen"

        for _ in range(3):
            seen, away = await look_at_each(broker, [HERE, THERE], look)
            assert seen == {HERE: "seen"}
            assert set(away) == {THERE} and "does not answer" in away[THERE].message
            assert "secret" not in away[THERE].message
        assert asked.count(HERE) == 3 and asked.count(THERE) == 1
        assert len(await server_figures(broker)) == 1
        broker.of(THERE).silent_until = 0.0  # the while is over
        await look_at_each(broker, [THERE], look)
        assert asked.count(THERE) == 2


async def test_home_is_waited_for(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without home nothing can be told anyway, so only the time limit of its commands counts."""
    monkeypatch.setattr(by_server, "PATIENCE", 0.0)
    async with Broker(redis_url) as broker:
        await ask(broker, broker, broker.ping)
    async with silent() as url, Broker(url, timeout=0.1) as broker:
        with pytest.raises(RedisAway, match="cannot be reached"):
            await ask(broker, broker, broker.ping)
        assert broker.silent_until == 0.0
