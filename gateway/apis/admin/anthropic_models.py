"""The models as Anthropic's clients read them: for whoever sends `anthropic-version`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.errors import BadRequest

VERSION = "anthropic-version"  # every client of Anthropic's API sends this header
PAGE = 20
MOST = 1000


def speaks_anthropic(request: Request) -> bool:
    """Tells in whose form the client reads models; both APIs have the same paths."""
    return VERSION in request.headers


def anthropic_model(info: ModelInfo) -> dict[str, Any]:
    """Returns the model in Anthropic's form. What an answer may have is what the context has left, so no other bound
    is told."""
    return {
        "type": "model",
        "id": info.name,
        "display_name": info.name,
        "created_at": datetime.fromtimestamp(info.created or 0, UTC).isoformat().replace("+00:00", "Z"),
        "max_input_tokens": info.context_length or None,
        "max_tokens": info.context_length or None,
        "lifecycle": "active",
    }


def anthropic_models(models: list[ModelInfo], query: Mapping[str, str]) -> dict[str, Any]:
    """Returns a page of the list: `limit` of them, after `after_id` or before `before_id`. Raises `BadRequest`."""
    ids = [str(info.name) for info in models]
    limit = _limit(query.get("limit", str(PAGE)))
    first, last = 0, len(ids)
    if (after := query.get("after_id")) is not None:
        first = _place(ids, after, "after_id") + 1
    if (before := query.get("before_id")) is not None:
        last = _place(ids, before, "before_id")
        first = max(first, last - limit)
    page = models[first : min(last, first + limit)]
    more = first > 0 if before is not None else first + len(page) < last
    ends = {"first_id": page[0].name if page else None, "last_id": page[-1].name if page else None}
    return {"data": [anthropic_model(info) for info in page], "has_more": more, **ends}


def _limit(given: str) -> int:
    if not given.isdigit() or not 1 <= int(given) <= MOST:
        raise BadRequest(f"Invalid 'limit': expected an integer from 1 to {MOST}.", param="limit")
    return int(given)


def _place(ids: list[str], name: str, param: str) -> int:
    if name not in ids:
        raise BadRequest(f"Invalid '{param}': there is no model '{name[:80]}'.", param=param)
    return ids.index(name)
