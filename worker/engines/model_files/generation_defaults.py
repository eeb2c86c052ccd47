"""Reads the sampling that a model's makers recommend, and its end tokens, out of its `generation_config.json`."""

from collections.abc import Mapping
from typing import Any, cast

import structlog

log = structlog.stdlib.get_logger(part="engine")

# The least and the most that a request may ask for.
_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (1e-6, 1),
    "top_k": (0, 2**31 - 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
}


def generation_defaults(told: Mapping[str, Any]) -> dict[str, float]:
    """Returns what the file says of sampling, by the names of a request's fields; `told` is what it has, without what
    only the library says. A value that no request could have is passed over with a line in the log."""
    given = {name: told[name] for name in _BOUNDS if isinstance(told.get(name), int | float)}
    good = {name: value for name, value in given.items() if _BOUNDS[name][0] <= value <= _BOUNDS[name][1]}
    if good != given:
        log.warning("generation_default_ignored", values={name: given[name] for name in given.keys() - good.keys()})
    return good


def end_ids(told: Any) -> frozenset[int]:
    """Returns the end tokens that an `eos_token_id` tells: none, one, or a list."""
    if told is None:
        return frozenset()
    return frozenset(cast(list[int], told) if isinstance(told, list) else [told])
