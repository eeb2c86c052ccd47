"""Examples of the answers of batches, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.files.examples import FILE

BATCH: dict[str, Any] = {
    "id": "batch_0123456789abcdef01234567",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": FILE["id"],
    "completion_window": "24h",
    "status": "in_progress",
    "created_at": 1763767713,
    "request_counts": {"total": 2, "completed": 1, "failed": 0},
}
