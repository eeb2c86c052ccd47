"""The body of `POST /v1/chat/completions`: every field of OpenAI's reference, and the open-weights extras."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import INT32, MESSAGES, TOOLS, WORDS, Metadata, Most
from millstream.gateway.apis.shared.shapes.formats import ResponseFormat
from millstream.gateway.apis.shared.shapes.messages import Message
from millstream.gateway.apis.shared.shapes.sampling import SamplingFields
from millstream.gateway.apis.shared.shapes.tools import Function, NamedFunction, Tool, ToolChoice

ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

EXAMPLE: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Why do mills need streams?"}],
    "max_completion_tokens": 64,
    "temperature": 0.7,
    "stream": True,
    "stream_options": {"include_usage": True},
}


class ChatRequest(SamplingFields):
    """A conversation to be continued by one message (or `n`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    messages: Annotated[list[Message], Most(MESSAGES)] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=INT32)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Most(TOOLS)] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Most(128)] | None = Field(default=None, min_length=1)
    function_call: str | NamedFunction | None = None
    reasoning_effort: Effort | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: Annotated[list[str], Most(WORDS)] | None = None
    service_tier: ServiceTier | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None  # accepted: how long a prefix stays cached is the workers' business
    prompt_cache_options: dict[str, Any] | None = None  # accepted, as above
    prediction: dict[str, Any] | None = None  # accepted: it only ever saves time

    audio: Any = None  # refused
    web_search_options: Any = None  # refused
    moderation: Any = None  # refused

    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
