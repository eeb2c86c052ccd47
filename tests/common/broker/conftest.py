"""The broker's tests run on a real server, through the same door as everyone else."""

from collections.abc import AsyncIterator

import pytest_asyncio

from millstream.common.broker.connection.broker import Broker


@pytest_asyncio.fixture
async def broker(redis_url: str) -> AsyncIterator[Broker]:
    async with Broker(redis_url) as broker:
        yield broker
