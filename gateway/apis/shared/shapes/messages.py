"""Chat messages as clients send them."""

from typing import Annotated, Any, Literal

from millstream.gateway.apis.shared.shapes.base import MESSAGES, TOOLS, Most, Shape

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class ImageSource(Shape):
    """An image of a message: its bytes, as a `data:` URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class Part(Shape):
    """One part of a message's content. Text is what all models here read, images some; other kinds are refused by
    name."""

    type: str
    image_url: ImageSource | str | None = None  # a URL alone is the Responses API's form
    text: str | None = None
    refusal: str | None = None


class CalledFunction(Shape):
    """A function the model called earlier; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class CalledCustom(Shape):
    """A custom tool the model called earlier; `input` is its text."""

    name: str
    input: str = ""


class ToolCall(Shape):
    """A tool call the model made earlier: of a function, or of a custom tool."""

    id: str
    type: Literal["function", "custom"] = "function"
    function: CalledFunction | None = None
    custom: CalledCustom | None = None


class Message(Shape):
    """One message of the conversation."""

    role: Role
    content: str | Annotated[list[Part], Most(MESSAGES)] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Most(TOOLS)] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None
    reasoning_content: str | None = None
    audio: dict[str, Any] | None = None
