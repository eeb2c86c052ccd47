"""Tools, and the choice among them, also in the older `functions` form."""

from typing import Annotated, Any, Literal

from pydantic import Field

from millstream.gateway.apis.shared.shapes.base import TOOLS, Most, Shape

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


class Function(Shape):
    """A function the model may call; `parameters` is a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FreeForm(Shape):
    """The text that a custom tool takes: any, or what a grammar says (told to the model, not enforced)."""

    type: Literal["text", "grammar"] = "text"
    syntax: Literal["lark", "regex"] | None = None
    definition: str | None = None
    grammar: "FreeForm | None" = None  # where the chat API has the two above; the Responses API has them flat


class CustomFunction(Shape):
    """A tool whose input is text instead of JSON."""

    name: FunctionName
    description: str | None = None
    format: FreeForm | None = None


class Tool(Shape):
    """A tool of a chat completion: a function, a custom tool, or one that its maker hosts, which is left out."""

    type: str
    function: Function | None = None
    custom: CustomFunction | None = None


class Toolbox(Shape):
    """Tools without the request that offers them."""

    tools: list[Tool]


class NamedFunction(Shape):
    """The function to call."""

    name: str


class NamedTool(Shape):
    """One of the tools, by name."""

    type: Literal["function", "custom"]
    function: NamedFunction | None = None
    custom: NamedFunction | None = None


class AllowedTools(Shape):
    """A subset of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Most(TOOLS)] = Field(min_length=1)


class ToolChoice(Shape):
    """A choice given as an object."""

    type: str
    function: NamedFunction | None = None
    custom: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None
