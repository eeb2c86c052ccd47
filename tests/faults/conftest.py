"""Each fault test has a Valkey and processes of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import Cluster, cluster


@pytest_asyncio.fixture
async def site(own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(own_valkey, tmp_path) as running:
        yield running
