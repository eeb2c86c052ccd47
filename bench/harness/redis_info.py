# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Reads what the server says about itself."""

from collections.abc import Awaitable
from typing import Any, cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.job import ModelName


async def info(broker: Broker, section: str) -> dict[str, Any]:
    """Returns one section of INFO."""
    return await cast(Awaitable[dict[str, Any]], broker.redis.info(section))


async def commands(broker: Broker) -> int:
    """Returns the commands so far, those inside scripts included."""
    return int((await info(broker, "stats"))["total_commands_processed"])


async def memory(broker: Broker) -> int:
    """Returns the bytes of all keys and values."""
    return int((await info(broker, "memory"))["used_memory_dataset"])


async def waiting(broker: Broker, model: ModelName) -> int:
    """Returns jobs in the backlog."""
    found = await cast(Awaitable[str | None], broker.redis.hget(keys.waiting(model), "jobs"))
    return int(found or 0)
