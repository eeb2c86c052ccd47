"""A conversation made short. The user's own messages stay, and what else was said becomes
a summary, which the model writes and the client sends back as an item."""

from typing import Annotated, Any

from pydantic import ConfigDict

from millstream.gateway.apis.chat.read import prepare_chat, rewritten
from millstream.gateway.apis.responses.input.items import Item, item_messages
from millstream.gateway.apis.responses.input.listing import listed_items
from millstream.gateway.apis.responses.input.sealing import sealed
from millstream.gateway.apis.responses.response_object import response_usage
from millstream.gateway.apis.responses.shape import ResponseItem, TurnItem
from millstream.gateway.apis.shared.read.messages import as_text, missing
from millstream.gateway.apis.shared.shapes.base import MESSAGES, Most, Shape
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext
from millstream.gateway.requests.response_meta import ResponseMeta

INSTRUCTION = (
    "Write a summary of the conversation above for whoever goes on with it and will not see it. Tell what was asked "
    "for, what was decided and done, which files, names and values matter, what the tools found, and what is still to "
    "be done. Write the summary alone, without a greeting or a comment."
)
EXAMPLE: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "input": [{"type": "message", "role": "user", "content": "Why do mills need streams?"}],
}


class CompactRequest(Shape):
    """A conversation to be made short."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: str
    input: str | Annotated[list[TurnItem], Most(MESSAGES)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None  # accepted, as for responses
    service_tier: str | None = None


def all_items(body: CompactRequest, history: list[Item]) -> list[Item]:
    """Returns the whole conversation. Raises `BadRequest` where there is none."""
    own: list[Item] = [] if body.input is None else [*_own(body.input)]
    if not history and not own:
        raise missing("input")
    return [*history, *own]


def _own(given: str | list[Item]) -> list[Item]:
    return [ResponseItem(role="user", content=given)] if isinstance(given, str) else given


def prepare_compact(body: CompactRequest, place: RequestContext, history: list[Item]) -> PreparedRequest:
    """Returns the job that writes the summary. Raises `BadRequest` naming the field at fault."""
    messages = as_text(item_messages(all_items(body, history), "input", place.vision))
    if body.instructions is not None:
        messages.insert(0, {"role": "system", "content": body.instructions})
    messages.append({"role": "user", "content": INSTRUCTION})
    fields = {
        "model": body.model,
        "messages": messages,
        "prompt_cache_key": body.prompt_cache_key,
        "service_tier": body.service_tier,
    }
    return prepare_chat(rewritten(fields), place)


def compact_body(head: ResponseMeta, accumulators: list[Accumulator], items: list[Item]) -> dict[str, Any]:
    """Returns the short conversation: the user's messages, then the summary."""
    [accumulator] = accumulators
    digits = head.id.partition("_")[2]
    said = [item for item in items if isinstance(item, ResponseItem) and (item.type, item.role) == ("message", "user")]
    summary = {"id": f"cmp_{digits}", "type": "compaction", "encrypted_content": sealed(accumulator.text)}
    return {
        "id": head.id,
        "object": "response.compaction",
        "created_at": head.created,
        "output": [*listed_items([*said], digits), summary],
        "usage": response_usage(accumulator.usage),
    }
