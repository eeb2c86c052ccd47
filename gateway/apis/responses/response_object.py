"""The Responses API's `response` object around whatever its output is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from millstream.common.chunk import FinishReason, Usage
from millstream.common.errors import Cancelled, MillstreamError
from millstream.gateway.apis.responses.shape import ConversationReference, FlatChoice, FlatTool, ResponseRequest
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.response_meta import ResponseMeta

OPENAI_DEFAULTS: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0}
Status = Literal["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"]


@dataclass(frozen=True, slots=True)
class ResponseFrame:
    """The part of a request that its response repeats; JSON, so that any gateway can continue a stored one."""

    fields: dict[str, Any]
    sealed: bool = False  # reasoning items carry `encrypted_content`
    logprobs: bool = False


def frame_fields(body: ResponseRequest, defaults: Mapping[str, float] = OPENAI_DEFAULTS) -> dict[str, Any]:
    """Returns the request's part of the object. `defaults`: the model's own sampling, where the request is silent."""
    sampled = {**OPENAI_DEFAULTS, **defaults}
    reasoning, text, conversation = body.reasoning, body.text, conversation_id(body)
    wanted = {"type": "text"}
    if text is not None and text.format is not None:
        wanted = text.format.model_dump(by_alias=True, exclude_none=True)
    return {
        "instructions": body.instructions,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "temperature": sampled["temperature"] if body.temperature is None else body.temperature,
        "top_p": sampled["top_p"] if body.top_p is None else body.top_p,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "store": body.store is not False,
        "tool_choice": _choice(body.tool_choice),
        "tools": [_tool(tool) for tool in body.tools or []],
        "background": bool(body.background),
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "previous_response_id": body.previous_response_id,
        "conversation": conversation and {"id": conversation},
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "safety_identifier": body.safety_identifier,
        "text": {"format": wanted, "verbosity": text.verbosity if text and text.verbosity else "medium"},
        "top_logprobs": body.top_logprobs or 0,
        "truncation": body.truncation or "disabled",
        "user": body.user,
    }


def conversation_id(body: ResponseRequest) -> str | None:
    """Returns the conversation that the turn belongs to."""
    given = body.conversation
    return given.id if isinstance(given, ConversationReference) else given


def _choice(choice: str | FlatChoice | None) -> str | dict[str, Any]:
    return choice.model_dump(exclude_none=True) if isinstance(choice, FlatChoice) else choice or "auto"


def _tool(tool: FlatTool) -> dict[str, Any]:
    """Returns the tool as it came, a function with its defaults."""
    given = tool.model_dump(by_alias=True, exclude_unset=True, exclude={"tools"})
    if tool.type == "namespace":
        return {"description": "", **given, "tools": [_tool(each) for each in tool.tools or []]}
    if tool.type != "function":
        return given | ({} if tool.tools is None else {"tools": [_tool(each) for each in tool.tools]})
    defaults = {
        "description": tool.description,
        "parameters": tool.parameters or {},
        "strict": tool.strict is not False,
    }
    return given | defaults


def response_object(
    head: ResponseMeta, frame: ResponseFrame, status: Status, output: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the object of a response that is not over."""
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created,
        "completed_at": None,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": head.model,
        "output": output,
        "usage": None,
        "service_tier": head.tier,
        **frame.fields,
    }


def counted_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns how many tokens an input is."""
    result = accumulators[0].result
    return {"object": "response.input_tokens", "input_tokens": len(result.ids) if result else 0}


def ended(response: dict[str, Any], finish: FinishReason | None, usage: Usage, at: int) -> dict[str, Any]:
    """Returns the same response at its end: complete at the moment `at`, or cut."""
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish or "")
    details = {"reason": cut} if cut else None
    status: Status = "incomplete" if cut else "completed"
    completed = None if cut else at
    return response | {
        "status": status,
        "completed_at": completed,
        "incomplete_details": details,
        "usage": response_usage(usage),
    }


def broken(response: dict[str, Any], error: MillstreamError) -> dict[str, Any]:
    """Returns the same response when it failed or was cancelled."""
    if isinstance(error, Cancelled):
        return response | {"status": "cancelled"}
    return response | {"status": "failed", "error": {"code": "server_error", "message": error.message}}


def response_usage(usage: Usage) -> dict[str, Any]:
    """Returns the usage as this API tells it."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }
