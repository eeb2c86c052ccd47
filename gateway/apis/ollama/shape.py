"""The bodies of Ollama's native API: every field it knows. Options that only tune a server's hardware are no fields
here, so that they are ignored like any unknown name."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import (
    INPUTS,
    INT32,
    MESSAGES,
    TOOLS,
    WORDS,
    Most,
    Penalty,
    Seed,
    Shape,
    Stops,
    Temperature,
    TokenIds,
    Unit,
)
from millstream.gateway.apis.shared.shapes.tools import Tool

MODEL = "smollm2-135m-instruct"
CHAT_EXAMPLE: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Why do mills need streams?"}],
    "options": {"temperature": 0.7, "num_predict": 64},
}
GENERATE_EXAMPLE: dict[str, Any] = {"model": MODEL, "prompt": "Why do mills need streams?", "stream": False}
EMBED_EXAMPLE: dict[str, Any] = {"model": "all-minilm-l6-v2", "input": ["a mill", "a stream"]}
OLD_EMBED_EXAMPLE: dict[str, Any] = {"model": "all-minilm-l6-v2", "prompt": "a mill"}
LATEST = ":latest"  # the tag that a name without a tag stands for


class OllamaBody(Shape):
    """A body that names a model, with or without the tag `latest`."""

    asked: str = Field(alias="model")
    keep_alive: float | str | None = None  # ignored: which models are loaded is the workers' business

    @property
    def model(self) -> str:
        """Returns the model's name in this cluster."""
        return self.asked.removesuffix(LATEST)


class OllamaOptions(Shape):
    """The options that say how tokens are chosen and when generation ends."""

    temperature: Temperature | None = None
    top_k: int | None = Field(default=None, ge=0, le=INT32)
    top_p: Unit | None = None
    min_p: Unit | None = None
    seed: Seed | None = None  # -1: a random one
    num_predict: int | None = Field(default=None, ge=-2, le=INT32)  # -1 and -2: no bound
    stop: str | Stops | None = None
    repeat_penalty: float | None = Field(default=None, ge=0.01, le=100)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None

    repeat_last_n: int | None = None  # refused where it would change something, as all below
    penalize_newline: bool | None = None
    typical_p: float | None = None
    tfs_z: float | None = None
    mirostat: int | None = None


class GeneratingBody(OllamaBody):
    """The fields that chat and generate have in common."""

    stream: bool | None = None  # as if true
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: OllamaOptions | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class OllamaFunctionCall(Shape):
    """The function a model called earlier."""

    name: str
    arguments: dict[str, Any] = Field(default={})


class OllamaToolCall(Shape):
    """A call the model made earlier. Older clients send no id."""

    id: str | None = None
    function: OllamaFunctionCall


class OllamaMessage(Shape):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: Annotated[list[Any], Most(WORDS)] | None = None  # refused
    tool_calls: Annotated[list[OllamaToolCall], Most(TOOLS)] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OllamaChatRequest(GeneratingBody):
    """A conversation to be continued by one message."""

    model_config = ConfigDict(json_schema_extra={"examples": [CHAT_EXAMPLE]})

    messages: Annotated[list[OllamaMessage], Most(MESSAGES)] | None = None
    tools: Annotated[list[Tool], Most(TOOLS)] | None = None


class OllamaGenerateRequest(GeneratingBody):
    """A prompt to be answered: as a user's message, or (`raw`) as the text to go on from."""

    model_config = ConfigDict(json_schema_extra={"examples": [GENERATE_EXAMPLE]})

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None  # refused, as all below
    template: str | None = None
    context: TokenIds | None = None
    images: Annotated[list[Any], Most(WORDS)] | None = None


class OllamaEmbedRequest(OllamaBody):
    """Texts to be turned into vectors."""

    model_config = ConfigDict(json_schema_extra={"examples": [EMBED_EXAMPLE]})

    input: str | Annotated[list[str], Most(INPUTS)]
    truncate: bool | None = None  # as if true
    dimensions: int | None = Field(default=None, ge=1, le=65536)


class OllamaOldEmbedRequest(OllamaBody):
    """One text to be turned into a vector, in the older form."""

    model_config = ConfigDict(json_schema_extra={"examples": [OLD_EMBED_EXAMPLE]})

    prompt: str = Field(min_length=1)


class OllamaShowRequest(Shape):
    """The model to look at; `name` is the older field."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": MODEL}]})

    asked: str | None = Field(default=None, alias="model")
    name: str | None = None
