"""Examples of the answers of conversations, for `/docs` and `/openapi.json`."""

from typing import Any

CONVERSATION: dict[str, Any] = {
    "id": "conv_6920f5a1001a3f2c9d5c7be12f6a4410",
    "object": "conversation",
    "created_at": 1763767713,
    "metadata": {"project": "mill"},
}
