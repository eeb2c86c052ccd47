"""A site around the session's Valkey."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.routing.site import Site, open_site


@pytest_asyncio.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with open_site(redis_url) as opened:
        yield opened
