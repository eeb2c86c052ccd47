"""Examples that several APIs share, and the form in which a route shows its own in `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.errors.table import FieldError

MODEL = "smollm2-135m-instruct"
ID = "chatcmpl-6920f5a1001a3f2c9d5c7be12f6a4410"
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
MISSING = FieldError(
    "Missing required parameter: 'messages'.", param="messages", wire_code="missing_required_parameter"
)


def failures(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of every route for what can go wrong. `example`: the body of an error in the API's
    dialect."""
    failed: dict[str, Any] = {
        "description": "What is wrong, and with which parameter",
        "content": {"application/json": {"example": example}},
    }
    return {"4XX": failed, "5XX": failed}


def answers(
    example: dict[str, Any], stream: str | None = None, status: int = 200, media: str = "text/event-stream"
) -> dict[int | str, dict[str, Any]]:
    """Returns a route's `responses`: the whole answer, and the stream if there is one, whose media type is `media`. A
    stream has no schema: whose it would be, the body's or an event's, this version of OpenAPI leaves open."""
    content: dict[str, Any] = {"application/json": {"example": example}}
    if stream is not None:
        content[media] = {"example": stream}
    return {status: {"description": "The answer", "content": content}}


def listed(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a list."""
    ends = {"first_id": example["id"], "last_id": example["id"], "has_more": False}
    return answers({"object": "list", "data": [example], **ends})


def deleted(identity: str, kind: str) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a deletion."""
    return answers({"id": identity, "object": kind, "deleted": True})
