"""The bodies of the routes of conversations."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from millstream.gateway.apis.responses.shape import TurnItem
from millstream.gateway.apis.shared.shapes.base import Metadata, Most, Shape

ITEMS = 20  # added by one request, as OpenAI has it
HELLO: dict[str, Any] = {"type": "message", "role": "user", "content": "Why do mills need streams?"}


class NewConversation(Shape):
    """The items with which a conversation begins."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [HELLO], "metadata": {"project": "mill"}}]})

    items: Annotated[list[TurnItem], Most(ITEMS)] | None = None
    metadata: Metadata | None = None


class ConversationUpdate(Shape):
    """The metadata from now on; null for none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"project": "mill"}}]})

    metadata: Metadata | None


class NewItems(Shape):
    """Items to add at a conversation's end."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [HELLO]}]})

    items: Annotated[list[TurnItem], Most(ITEMS)] = Field(min_length=1)
