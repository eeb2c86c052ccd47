"""Errors as Ollama's clients expect them."""

from typing import Any

from millstream.common.errors import MillstreamError
from millstream.gateway.errors.table import readable


def ollama_error(error: MillstreamError) -> dict[str, Any]:
    """`{"error": message}`; the status tells the kind."""
    return {"error": readable(error.message)}
