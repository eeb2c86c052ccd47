# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The use that tenants made of each model, day by day (UTC): counted by the script that settles a job, in the same
step."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.models.directory import model_names
from millstream.common.job import ModelName

EPOCH = date(1970, 1, 1)
MOST_DAYS = 400  # as long as the counts are kept


@dataclass(frozen=True, slots=True)
class Used:
    """One tenant's use of one model on one day. A job is one sequence: `n=3` is three."""

    day: date
    model: ModelName
    tenant: str
    jobs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


async def read_usage(broker: Broker, first: date, last: date, tenant: str = "") -> list[Used]:
    """Returns the use of all models, from day `first` to day `last`; of one tenant, or of all. Sorted by day, model,
    tenant."""
    days = [first + timedelta(days=at) for at in range((last - first).days + 1)]
    found: list[Used] = []
    for model in await model_names(broker):
        found += await _of_model(broker, model, days, tenant)
    return sorted(found, key=lambda used: (used.day, used.model, used.tenant))


async def _of_model(broker: Broker, model: ModelName, days: Sequence[date], tenant: str) -> list[Used]:
    async with redis_errors():
        pipe = broker.of(model).redis.pipeline(transaction=False)
        for day in days:
            pipe.hgetall(keys.usage(model, (day - EPOCH).days))
        rows = await cast(Awaitable[list[dict[str, str]]], pipe.execute())
    return [
        used for day, counts in zip(days, rows, strict=True) for used in _rows(day, model, counts)
        if tenant in ("", used.tenant)
    ]  # fmt: skip


def _rows(day: date, model: ModelName, counts: dict[str, str]) -> list[Used]:
    """Returns the rows of one day. Fields are `<tenant> <what>`; a tenant may hold spaces, what is counted does not."""
    tenants: dict[str, dict[str, int]] = {}
    for field, value in counts.items():
        tenant, _, what = field.rpartition(" ")
        tenants.setdefault(tenant, {})[what] = int(value)
    return [
        Used(
            day,
            model,
            tenant,
            each.get("jobs", 0),
            each.get("prompt", 0),
            each.get("completion", 0),
            each.get("cached", 0),
        )
        for tenant, each in tenants.items()
    ]


class UsageBook:
    """The tenants' use, for a gateway's routes."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(self, first: date, last: date, tenant: str) -> list[Used]:
        """Returns one tenant's use. Raises `Unavailable`."""
        return await read_usage(self._broker, first, last, tenant)


def today() -> date:
    """Returns the day, UTC."""
    return datetime.now(UTC).date()
