"""The upkeep that each gateway does, for the models of each Redis server by itself: one that is away holds up its own
models only."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.url import without_secrets
from millstream.common.broker.models.astray import mark
from millstream.common.broker.models.directory import model_names
from millstream.common.broker.models.inspection import server_facts
from millstream.common.broker.models.unused_names import UnusedNames
from millstream.common.broker.upkeep import UpkeepRules, keep_up
from millstream.common.job import ModelName
from millstream.common.process.backoff import Backoff

UPKEEP_EVERY = 0.5  # seconds; workers do it too, a key in Redis elects one
MARK_EVERY = 5.0  # seconds between two marks of where this gateway looks for a model

log = structlog.stdlib.get_logger(part="gateway")


def upkeep_loops(
    broker: Broker, rules: UpkeepRules, forget_after: float
) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Returns a loop for each server, by its name. `forget_after`: seconds until an unused name is unlisted."""
    names = ("upkeep", *(f"upkeep_{at}" for at in range(1, len(broker.servers))))
    return {
        name: Tending(broker, server, rules, forget_after).run
        for name, server in zip(names, broker.servers, strict=True)
    }


class Tending:
    """The upkeep of the models that lie in one server."""

    def __init__(self, broker: Broker, server: Broker, rules: UpkeepRules, forget_after: float) -> None:
        self._broker = broker
        self._server = server
        self._rules = rules
        self._unused = UnusedNames(broker, forget_after)
        self._models: Sequence[ModelName] = []
        self._marked: dict[ModelName, float] = {}
        self._told: set[str] = set()

    async def run(self) -> None:
        """Keeps its models up, for ever; says in the log when the server is away and when it is back."""
        backoff, away, looked = Backoff(most=1.0), False, False
        place = {"server": without_secrets(self._server.url)}
        while True:
            try:
                if not looked:
                    await warn_of_eviction(self._server)
                    looked = True
                await self._once()
            except RedisAway as error:
                if not away:
                    log.warning("waiting_for_redis", error=error.message, **place)
                away = True
                await backoff.sleep()
            else:
                if away:
                    log.info("redis_back", **place)
                away = False
                backoff.reset()
                await asyncio.sleep(UPKEEP_EVERY)

    async def _once(self) -> None:
        await self._learn_models()
        for model in self._models:
            await keep_up(self._broker, model, self._rules)
            if monotonic() - self._marked.get(model, 0.0) >= MARK_EVERY:
                await self._mark(model)
        await self._forget()

    async def _learn_models(self) -> None:
        """Asks home; while that is away, the models are those that were known."""
        try:
            names = await model_names(self._broker)
        except RedisAway:
            if self._server is self._broker:
                raise
        else:
            self._models = [name for name in names if self._broker.of(name) is self._server]

    async def _forget(self) -> None:
        try:
            for gone in await self._unused.look(self._models):
                log.info("model_unlisted", model=gone, unused_for=self._unused.after)
        except RedisAway:
            if self._server is self._broker:
                raise

    async def _mark(self, model: ModelName) -> None:
        try:
            sentence = await mark(self._broker, model)
        except RedisAway:
            if self._server is self._broker:
                raise
            return  # home's absence is told by home's own loop
        self._marked[model] = monotonic()
        if sentence and sentence not in self._told:
            self._told.add(sentence)
            log.warning("model_elsewhere", model=model, error=sentence)


async def warn_of_eviction(broker: Broker) -> None:
    """Tells in the log of a server that may throw jobs away. Raises `RedisAway`."""
    facts = await server_facts(broker)
    if facts.eviction not in ("noeviction", "None"):
        told = "this server may throw jobs away when its memory is full: set maxmemory-policy noeviction"
        log.warning("redis_evicts", policy=facts.eviction, remedy=told)
