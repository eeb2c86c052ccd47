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


class Tool(Shape):
    """A tool of a chat completion. Only functions run on open-weights models; other kinds are refused by name."""

    type: str
    function: Function | None = None


class NamedFunction(Shape):
    """The function to call."""

    name: str


class NamedTool(Shape):
    """One of the tools, by name."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Shape):
    """A subset of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Most(TOOLS)] = Field(min_length=1)


class ToolChoice(Shape):
    """A choice given as an object."""

    type: str
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None
