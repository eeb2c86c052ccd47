"""Examples of the answers of files, for `/docs` and `/openapi.json`."""

from typing import Any

FILE: dict[str, Any] = {
    "id": "file-0123456789abcdef01234567",
    "bytes": 218,
    "created_at": 1763767713,
    "filename": "lines.jsonl",
    "purpose": "batch",
    "expires_at": 1766359713,
    "object": "file",
    "status": "processed",
}
