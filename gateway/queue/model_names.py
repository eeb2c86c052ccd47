"""Several names for one model, as its workers announce them: any of them reaches its queue."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.models.directory import ModelInfo, other_names
from millstream.common.job import ModelName
from millstream.common.process.backoff import Backoff

REFRESH = 1.0  # seconds between two looks at the names


class ModelNames:
    """The other names of models, as last read."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._names: Mapping[str, ModelName] = {}

    def model(self, name: ModelName) -> ModelName:
        """Returns the model called so; a name nobody announced stands for itself."""
        return self._names.get(name, name)

    async def refresh(self) -> Mapping[str, ModelName]:
        """Reads the names now. Raises `RedisAway`."""
        self._names = await other_names(self._broker)
        return self._names

    async def watch(self) -> None:
        """Reads the names again and again; ends by cancellation only."""
        backoff = Backoff(most=REFRESH)
        while True:
            try:
                await self.refresh()
                await asyncio.sleep(REFRESH)
            except RedisAway:
                await backoff.sleep()


def under_all_names(models: Sequence[ModelInfo], names: Mapping[str, ModelName]) -> list[ModelInfo]:
    """Returns each model once under each of its names, sorted by name; no name twice."""
    by_name = {model.name: model for model in models}
    others = [replace(by_name[model], name=ModelName(name)) for name, model in names.items() if model in by_name]
    shown = by_name | {model.name: model for model in others}
    return sorted(shown.values(), key=lambda model: model.name)
