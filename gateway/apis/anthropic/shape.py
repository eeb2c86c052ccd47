"""The bodies of `POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from millstream.gateway.apis.chat.shape import Effort
from millstream.gateway.apis.shared.shapes.base import INT32, MESSAGES, TOOLS, Most, Shape, Stops, Unit
from millstream.gateway.apis.shared.shapes.foreign import ForeignAware

COUNTED: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Why do mills need streams?"}],
}
EXAMPLE: dict[str, Any] = COUNTED | {"max_tokens": 64}


class Block(Shape):
    """One block of a message's content."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | Annotated[list[Block], Most(MESSAGES)] | dict[str, Any] | None" = None
    is_error: bool | None = None
    source: dict[str, Any] | str | None = None  # of an image, a document, a search result
    title: str | None = None
    context: str | None = None
    tool_name: str | None = None  # of a reference to a tool


Content = str | list[Block] | dict[str, Any]


class AnthropicMessage(Shape):
    """One message; `system` in the middle is known to newer clients."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Most(MESSAGES)]


class AnthropicTool(Shape):
    """A tool of the client's own, or one of Anthropic's, which is left out."""

    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class AnthropicChoice(Shape):
    """The tool, if any, that the model is to call."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Shape):
    """A switch: may the model think before it answers?"""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None  # accepted: open models have no such dial


class OutputFormat(Shape):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    body: dict[str, Any] = Field(alias="schema")


class OutputConfig(Shape):
    """The effort and the form of the output."""

    effort: Effort | None = None
    format: OutputFormat | None = None


class RequestMetadata(Shape):
    """The user on whose behalf the request is made."""

    user_id: str | None = None


class CountRequest(ForeignAware):
    """The messages, system prompt and tools whose tokens are to be counted."""

    model_config = ConfigDict(json_schema_extra={"examples": [COUNTED]})

    model: str
    messages: Annotated[list[AnthropicMessage], Most(MESSAGES)] = Field(min_length=1)
    system: str | Annotated[list[Block], Most(MESSAGES)] | None = None
    tools: Annotated[list[AnthropicTool], Most(TOOLS)] | None = None
    tool_choice: AnthropicChoice | None = None
    thinking: Thinking | None = None


class MessageRequest(CountRequest):
    """A conversation to be continued by one message."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    max_tokens: int = Field(ge=1, le=INT32)
    stream: bool | None = None
    stop_sequences: Stops | None = None
    temperature: Unit | None = None
    top_p: Unit | None = None
    top_k: int | None = Field(default=None, ge=0, le=INT32)
    metadata: RequestMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    output_config: OutputConfig | None = None
    seed: int | None = None
    container: Any = None  # refused
    mcp_servers: Annotated[list[dict[str, Any]], Most(TOOLS)] | None = None  # left out: an offer, like a tool
