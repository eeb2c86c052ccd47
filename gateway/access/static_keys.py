"""The API keys of the settings, and what each may do: `tenant:key`, then terms such as `rpm=60 concurrent=8`.

Keys made with `millstream keys create` have the same terms; there they are in Redis and may change.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec

from millstream.common.broker.accounts.keyring import STATIC, ApiKey, KeyLimits, digest
from millstream.common.job import TIERS
from millstream.gateway.settings import GatewaySettings

LIMITS = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "concurrent": "concurrent",
    "tokens-per-day": "tokens_per_day",
    "tokens-per-month": "tokens_per_month",
}
KeyEntry = tuple[str, str]  # where it stands, for errors, and its text


@dataclass(frozen=True, slots=True)
class StaticKeys:
    """Keys from the settings. Only their hashes are kept, and looked up, so timing tells nothing of a key."""

    records: Mapping[str, ApiKey]

    async def owner(self, key: str) -> ApiKey | None:
        return self.records.get(digest(key))

    async def demanded(self) -> bool:
        return bool(self.records)


def keys_of(settings: GatewaySettings) -> StaticKeys:
    """Returns the keys of the settings, those in the file included. Raises `ValueError`, which says where the fault is
    without repeating a key."""
    entries = [(f"api_keys[{index}]", text) for index, text in enumerate(settings.api_keys)]
    records: dict[str, ApiKey] = {}
    for place, text in [*entries, *_lines(settings)]:
        fingerprint, record = _read(place, text)
        if records.setdefault(fingerprint, record) != record:
            raise ValueError(f"{place}: this key stands twice, each time with another tenant or other terms")
    return StaticKeys(records)


def _lines(settings: GatewaySettings) -> Iterable[KeyEntry]:
    """Empty lines and those that begin with `#` are passed over."""
    if settings.api_keys_file is None:
        return
    place = "api_keys_file (MILLSTREAM_API_KEYS_FILE)"
    try:
        lines = settings.api_keys_file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{place}: {error}") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and not line.startswith("#"):
            yield f"{place}, line {number}", line


def _read(place: str, text: str) -> tuple[str, ApiKey]:
    tenant, _, rest = text.partition(":")
    key, *terms = rest.split() or [""]
    if not (tenant and key):
        raise ValueError(f"{place}: expected `tenant:key`, then perhaps terms such as `rpm=60 concurrent=8`")
    given = _terms(place, terms)
    limits = {LIMITS[name]: value for name, value in given.items() if name in LIMITS}
    others = {name: value for name, value in given.items() if name in OTHERS}
    fingerprint = digest(key)
    identity = STATIC + fingerprint[:16] if limits else ""  # only what has limits is counted
    return fingerprint, ApiKey(identity, tenant, limits=msgspec.convert(limits, KeyLimits), **others)


def _terms(place: str, terms: Iterable[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for term in terms:
        name, _, value = term.partition("=")
        read = _count if name in LIMITS else OTHERS.get(name)
        if read is None:
            raise ValueError(f"{place}: a term is none of {', '.join((*LIMITS, *OTHERS))}, each with `=` and a value")
        if name in given:
            raise ValueError(f"{place}: `{name}` stands twice")
        given[name] = _checked(place, name, value, read)
    return given


def _checked(place: str, name: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{place}: `{name}` wants {error}") from None


def _count(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise ValueError("a whole number above 0; leave it out for no limit")
    return int(value)


def _weight(value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = 0.0
    if not (isfinite(weight) and weight > 0):
        raise ValueError("a number above 0")
    return weight


def _ceiling(value: str) -> str:
    if value not in TIERS:
        raise ValueError(f"one of {', '.join(TIERS)}")
    return value


def _models(value: str) -> tuple[str, ...]:
    names = tuple(value.split("|"))
    if not all(names):
        raise ValueError("names of models with `|` between them")
    return names


OTHERS: Mapping[str, Callable[[str], Any]] = {"weight": _weight, "ceiling": _ceiling, "models": _models}
