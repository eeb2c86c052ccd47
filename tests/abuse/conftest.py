"""A cluster of two tenants: an attacker, and a neighbour whose answers are known."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import Cluster, cluster
from tests.worker.engines.conftest import hosted, tiny_folder

__all__ = ["hosted", "tiny_folder"]


@pytest_asyncio.fixture
async def site(own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A longer lease than elsewhere: the machine is kept busy on purpose."""
    async with cluster(own_valkey, tmp_path, lease="15.0", api_keys="attacker:bad,neighbour:good") as running:
        yield running
