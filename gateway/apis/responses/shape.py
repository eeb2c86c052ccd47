"""The body of `POST /v1/responses`."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter

from millstream.gateway.apis.chat.shape import Effort
from millstream.gateway.apis.shared.shapes.base import (
    INT32,
    MESSAGES,
    TOOLS,
    WORDS,
    Metadata,
    Most,
    Penalty,
    Shape,
    Temperature,
    Unit,
)
from millstream.gateway.apis.shared.shapes.messages import Part, Role
from millstream.gateway.apis.shared.shapes.sampling import OpenSampling, StreamOptions
from millstream.gateway.apis.shared.shapes.tools import FreeForm, FunctionName

EXAMPLE: dict[str, Any] = {"model": "smollm2-135m-instruct", "input": "Why do mills need streams?"}
FOREIGN_ITEMS = frozenset(
    (
        "web_search_call",
        "file_search_call",
        "computer_call",
        "computer_call_output",
        "code_interpreter_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "program",
        "program_output",
        "compaction_trigger",
    )
)
Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class ResponseItem(Shape):
    """One item of the input: a message, a call the model made, a tool's answer, what the model thought."""

    type: str = "message"
    id: str | None = None
    role: Role | None = None
    content: str | Annotated[list[Part], Most(MESSAGES)] | None = None
    summary: Annotated[list[Part], Most(MESSAGES)] | None = None  # of a thought
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None  # of a custom tool's call
    output: str | Annotated[list[Part], Most(MESSAGES)] | None = None
    encrypted_content: str | None = None
    attached: dict[str, Any] | None = None  # an extension: the client's own, kept with a message and listed with it


class ForeignItem(Shape):
    """An item that another server made, with whatever it carries: a search, a shell's call, an image."""

    model_config = ConfigDict(extra="allow")

    type: str
    id: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Returns what else it carries."""
        return self.model_extra or {}


def _origin(item: Any) -> str:
    """Tells by an item's type, before anything else of it is looked at, whose it is."""
    given = cast(dict[str, Any], item).get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return "foreign" if isinstance(given, str) and given in FOREIGN_ITEMS else "own"


TurnItem = Annotated[
    Annotated[ResponseItem, Tag("own")] | Annotated[ForeignItem, Tag("foreign")], Discriminator(_origin)
]
read_item: Callable[[Any], ResponseItem | ForeignItem] = TypeAdapter[Any](TurnItem).validate_python


class FlatTool(Shape):
    """A tool, flat, as this API has it. Answers repeat it as it came."""

    model_config = ConfigDict(extra="allow")

    type: str
    name: FunctionName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: FreeForm | None = None  # of a custom tool
    tools: "Annotated[list[FlatTool], Most(TOOLS)] | None" = None  # of a namespace
    namespace: str | None = None  # of a tool to choose


class FlatChoice(Shape):
    """A tool choice given as an object."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[FlatTool], Most(TOOLS)] | None = None


class TextFormat(Shape):
    """Free text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    body: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(Shape):
    """The form of the text."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(Shape):
    """The effort of thinking, and whether the answer tells of it."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ConversationReference(Shape):
    """A conversation by its id."""

    id: str


class ResponseRequest(OpenSampling):
    """A turn of a conversation: input in, items out. It is kept unless `store` is false, so that a later turn can refer
    to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: str
    input: str | Annotated[list[TurnItem], Most(MESSAGES)]
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationReference | None = None
    tools: Annotated[list[FlatTool], Most(TOOLS)] | None = None
    tool_choice: str | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=INT32)
    max_tool_calls: int | None = Field(default=None, ge=1)  # accepted: it bounds OpenAI's own tools only
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Metadata | None = None
    include: Annotated[list[Includable], Most(WORDS)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    temperature: Temperature | None = None
    top_p: Unit | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    seed: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    prompt: Any = None  # refused
    moderation: Any = None  # refused
    context_management: Any = None  # refused
