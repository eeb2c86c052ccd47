"""A model's presence at home, which has the names of all models: announced there where its queue lies elsewhere, and
compared with where the gateways look for it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.models.astray import astray, tell_astray
from millstream.common.broker.models.directory import announce
from millstream.common.job import ModelName

EVERY = 1.0  # seconds between two announcements of a model whose queue lies elsewhere
COMPARE_EVERY = 5.0  # seconds between two looks at the marks, where the heartbeat announces the model
SURE_AFTER = 12.0  # seconds: gateways leave a mark every five, and a flushed server has none for so long

log = structlog.stdlib.get_logger(part="presence")


class Presence:
    """Announces one model. While home is away it is waited for: jobs go on without it."""

    def __init__(self, broker: Broker, model: ModelName, names: Sequence[str]) -> None:
        self._broker = broker
        self._model = model
        self._names = names
        self._elsewhere = broker.of(model) is not broker
        self._doubtful_since: float | None = None
        self._told = ""

    async def run(self) -> None:
        """Goes on for ever; ends by cancellation only."""
        away = False
        while True:
            try:
                if self._elsewhere:
                    await announce(self._broker, self._model, self._names)
            except RedisAway as error:
                if not away:
                    log.warning("waiting_for_home", model=self._model, error=error.message)
                away = True
            else:
                away = False
                with suppress(RedisAway):  # looked at again a moment later
                    await self._compare()
            await asyncio.sleep(EVERY if self._elsewhere else COMPARE_EVERY)

    async def _compare(self) -> None:
        """Says it, once it is sure, if no gateway looks for the model where it is served."""
        sentence = await astray(self._broker, self._model)
        if not sentence:
            if self._told:
                log.info("model_found", model=self._model)
            self._doubtful_since, self._told = None, ""
            return
        if self._doubtful_since is None:
            self._doubtful_since = monotonic()
        if monotonic() - self._doubtful_since < SURE_AFTER:
            return
        if sentence != self._told:
            log.error("model_astray", model=self._model, error=sentence)
            self._told = sentence
        await tell_astray(self._broker, self._model, sentence)
