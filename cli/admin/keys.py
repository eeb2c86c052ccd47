"""`millstream keys` and `usage`: API keys made, listed, limited, revoked; what each has used."""

import sys
import time
from typing import Any

import msgspec

from millstream.cli.inspect.tables import print_table
from millstream.cli.settings import KeyTerms, LimitSettings, RevokeSettings
from millstream.common.broker.accounts.keyring import (
    ApiKey,
    KeyLimits,
    digest,
    key_of,
    list_keys,
    new_key,
    revoke_key,
    store_key,
)
from millstream.common.broker.accounts.limits import periods, usage
from millstream.common.broker.connection.opening import open_broker
from millstream.common.settings import ClusterSettings

LIMITS = tuple(KeyLimits.__struct_fields__)


def changed(record: ApiKey, terms: KeyTerms) -> ApiKey:
    """Returns the record with what the terms say; what they leave out stays."""
    limits = {name: value for name in LIMITS if (value := getattr(terms, name)) is not None}
    given = {"tenant": terms.tenant, "weight": terms.weight, "ceiling": terms.ceiling}
    new: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if terms.models is not None:
        new["models"] = () if "*" in terms.models else tuple(terms.models)
    return msgspec.structs.replace(record, limits=msgspec.structs.replace(record.limits, **limits), **new)


async def create(terms: KeyTerms) -> None:
    """Prints the new key; nothing can show it again."""
    key, record = new_key()
    async with open_broker(terms) as broker:
        await store_key(broker, digest(key), changed(record, terms))
    sys.stdout.write(f"{key}\n")
    sys.stderr.write(f"{record.id}: keep the key now, it is stored only as a hash and cannot be shown again.\n")


async def limit(settings: LimitSettings) -> None:
    """Raises `NotFound`."""
    async with open_broker(settings) as broker:
        fingerprint, record = await key_of(broker, settings.id)
        await store_key(broker, fingerprint, changed(record, settings))
    await show_keys(settings)


async def revoke(settings: RevokeSettings) -> None:
    """Raises `NotFound`."""
    async with open_broker(settings) as broker:
        record = await revoke_key(broker, settings.id)
    sys.stdout.write(f"{record.id} of {record.tenant} is refused from now on (gateways know within a second).\n")


async def show_keys(settings: ClusterSettings) -> None:
    """Prints every key's terms."""
    async with open_broker(settings) as broker:
        records = (await list_keys(broker)).values()
    header = ("id", "ends in", "tenant", "weight", "up to tier", "models", "req/min", "tok/min", "at once", "tok/day")
    rows = [_terms_row(record) for record in records]
    print_table((*header, "tok/month", "made"), rows, "No API key was made: millstream keys create --tenant NAME")


async def show_usage(settings: ClusterSettings) -> None:
    """Prints what each key has used today and this month (UTC), reservations of running requests included."""
    async with open_broker(settings) as broker:
        day, month = await periods(broker)
        records = list((await list_keys(broker)).values())
        used = [await usage(broker, record.id, (day, month)) for record in records]
    rows = [
        (record.id, record.tenant, str(use.open_requests), str(use.tokens[day]), str(use.tokens[month]))
        for record, use in zip(records, used, strict=True)
    ]
    print_table(("id", "tenant", "open requests", f"tokens {day}", f"tokens {month}"), rows, "No API key was made.")


def _terms_row(record: ApiKey) -> tuple[str, ...]:
    figures = [str(getattr(record.limits, name) or "-") for name in LIMITS]
    made = time.strftime("%Y-%m-%d", time.gmtime(record.created))
    who = (record.id, record.ending, record.tenant, f"{record.weight:g}", record.ceiling)
    return (*who, ", ".join(record.models) or "all", *figures, made)
