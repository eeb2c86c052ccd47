"""A batch as its state in Redis tells of it, and as OpenAI's object."""

import re
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from millstream.common.broker.accounts.keyring import UNCOUNTED, ApiKey, decode_key
from millstream.common.broker.records.batches import BatchStatus
from millstream.common.errors import BadRequest

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
LONGEST_WINDOW = 14 * 86400  # seconds
TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as it was when its state was read. Times in seconds since the epoch."""

    id: str
    state: dict[str, str]

    @property
    def status(self) -> BatchStatus:
        return cast(BatchStatus, self.state["status"])

    @property
    def tenant(self) -> str:
        return self.state["tenant"]

    @property
    def key(self) -> ApiKey:
        """Returns the key whose work it is, as the key was when the batch was made."""
        return unmetered(decode_key(self.state["key"])) if self.state.get("key") else ApiKey("", self.tenant)

    @property
    def endpoint(self) -> str:
        return self.state["endpoint"]

    @property
    def input_file(self) -> str:
        return self.state["input_file_id"]

    @property
    def created(self) -> int:
        return self.number("created_at")

    @property
    def expires(self) -> int:
        """Returns when its completion window ends."""
        return self.number("expires_at")

    @property
    def flushed(self) -> int:
        """Returns how many lines have their answers in parts of the output."""
        return self.number("flushed")

    @property
    def offset(self) -> int:
        """Returns where line `flushed` begins in the input, in bytes."""
        return self.number("offset")

    @property
    def total(self) -> int:
        """Returns how many lines the input has; 0 until it is validated."""
        return self.number("total")

    def number(self, field: str) -> int:
        """Returns an integer field; 0 if it is not set."""
        return int(self.state.get(field) or 0)


def unmetered(key: ApiKey) -> ApiKey:
    """Returns the key with the limits of its batches: those by the day hold; by the minute, a batch waits for slots."""
    limits = msgspec.structs.replace(key.limits, requests_per_minute=0, tokens_per_minute=0, concurrent=UNCOUNTED)
    return msgspec.structs.replace(key, limits=limits)


def batch_object(batch: Batch) -> dict[str, Any]:
    """Returns OpenAI's batch object."""
    state = batch.state
    errors = msgspec.json.decode(state["errors"]) if state.get("errors") else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": state.get("model") or None,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.input_file,
        "completion_window": state["completion_window"],
        "status": batch.status,
        "output_file_id": state.get("output_file_id") or None,
        "error_file_id": state.get("error_file_id") or None,
        "created_at": batch.created,
        "expires_at": batch.expires,
        **{f"{name}_at": batch.number(f"{name}_at") or None for name in TIMES},
        "request_counts": {name: batch.number(name) for name in ("total", "completed", "failed")},
        "metadata": msgspec.json.decode(state["metadata"]) if state.get("metadata") else None,
    }


def window_seconds(text: str) -> int:
    """Reads a completion window such as `24h`. Raises `BadRequest`."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_WINDOW:
        message = f"Invalid 'completion_window': {text[:40]!r}. Expected for instance '24h', at most '14d'."
        raise BadRequest(message, param="completion_window")
    return seconds
