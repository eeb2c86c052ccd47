"""The body of `POST /v1/batches`."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import Metadata, Shape

EXAMPLE: dict[str, Any] = {
    "input_file_id": "file-0123456789abcdef01234567",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}


class OutputExpiry(Shape):
    """The time for which the files that a batch writes are kept."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=30 * 86400)


class BatchRequest(Shape):
    """A file of requests to be worked through when there is room."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: str
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None
