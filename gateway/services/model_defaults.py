"""The sampling that models use where a request is silent, as their workers announce it."""

import asyncio
from collections.abc import Mapping
from time import monotonic

from millstream.common.errors import Unavailable
from millstream.common.job import ModelName
from millstream.gateway.services.cluster import Directory

FRESH = 10.0  # seconds: workers of another kind for the same name are rare
NEW = 1.0  # seconds, for a model that was not there at the last look


class ModelDefaults:
    """Looks into the directory once in a while, not for every request."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._known: dict[ModelName, Mapping[str, float]] = {}
        self._read_at = -FRESH
        self._reading = asyncio.Lock()

    async def of(self, model: ModelName) -> Mapping[str, float]:
        """Returns the defaults by the names of a request's fields; empty where none are known."""
        async with self._reading:
            if monotonic() - self._read_at >= (FRESH if model in self._known else NEW):
                await self._read()
        return self._known.get(model, {})

    async def _read(self) -> None:
        try:
            self._known = {info.name: info.defaults for info in await self._directory.models()}
        except Unavailable:
            return
        self._read_at = monotonic()
