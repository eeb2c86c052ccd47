"""Turns Anthropic's bodies into prepared requests: each is rewritten as a chat, and the chat's reader does the rest."""

import json
from typing import Any

from millstream.common.job import JobRequest, TokenizeInput
from millstream.gateway.apis.anthropic.shape import (
    AnthropicChoice,
    AnthropicMessage,
    AnthropicTool,
    Block,
    CountRequest,
    MessageRequest,
)
from millstream.gateway.apis.chat.read import prepare_chat, rewritten
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.shared.read.messages import ChatMessage, missing, unsupported
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared


def prepare_message(body: MessageRequest, place: RequestContext) -> PreparedRequest:
    """Returns the one job of a message. Raises `BadRequest` naming the field at fault."""
    for name in ("container", "mcp_servers"):
        if getattr(body, name) is not None:
            raise unsupported(name, "nothing is executed here")
    return prepare_chat(_chat(body), place)


def prepare_count(body: CountRequest, place: RequestContext) -> PreparedRequest:
    """Returns a job that only counts."""
    work = TokenizeInput(messages=messages(body), tools=_tools(body.tools) or [])
    return prepared(place, body, [JobRequest(work)])


def _chat(body: MessageRequest) -> ChatRequest:
    config, choice = body.output_config, body.tool_choice
    written = messages(body)
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": written,
        "stream": body.stream,
        "max_completion_tokens": body.max_tokens,
        "stop": body.stop_sequences,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "tools": _tools(body.tools),
        "tool_choice": _choice(choice),
        "parallel_tool_calls": None if choice is None else not choice.disable_parallel_tool_use,
        "continue_final_message": written[-1]["role"] == "assistant",
        "reasoning_effort": config.effort if config else None,
        "response_format": _format(body),
        "chat_template_kwargs": None
        if body.thinking is None
        else {"enable_thinking": body.thinking.type != "disabled"},
        "user": body.metadata.user_id if body.metadata else None,
        "service_tier": "default" if body.service_tier == "standard_only" else None,
        "seed": body.seed,
    }
    return rewritten(fields)


def _format(body: MessageRequest) -> dict[str, Any] | None:
    if body.output_config is None or body.output_config.format is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": body.output_config.format.body}}


def messages(body: CountRequest) -> list[ChatMessage]:
    """Returns the messages in the form that chat templates read."""
    written: list[ChatMessage] = []
    if body.system:
        written.append({"role": "system", "content": _text(body.system, "system")})
    for index, message in enumerate(body.messages):
        written += _written(message, f"messages[{index}].content")
    return written


def _written(message: AnthropicMessage, path: str) -> list[ChatMessage]:
    """Makes messages of their own from a user's tool results, before what else the user says."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    results = [_result(block, path) for block in message.content if block.type == "tool_result"]
    rest = [block for block in message.content if block.type != "tool_result"]
    if message.role == "assistant":
        return [_assistant(rest, path)]
    return results + ([{"role": message.role, "content": _text(rest, path)}] if rest or not results else [])


def _assistant(blocks: list[Block], path: str) -> ChatMessage:
    calls = [_call(block, path) for block in blocks if block.type == "tool_use"]
    thoughts = [block.thinking or "" for block in blocks if block.type == "thinking"]
    said = _text([block for block in blocks if block.type not in ("tool_use", "thinking")], path)
    message: ChatMessage = {"role": "assistant", "content": said or (None if calls else "")}
    message |= {"tool_calls": calls} if calls else {}
    return message | ({"reasoning_content": "".join(thoughts)} if thoughts else {})


def _call(block: Block, path: str) -> dict[str, Any]:
    if block.id is None or block.name is None:
        raise missing(f"{path}.{'id' if block.id is None else 'name'}")
    function = {"name": block.name, "arguments": json.dumps(block.input or {}, ensure_ascii=False)}
    return {"id": block.id, "type": "function", "function": function}


def _result(block: Block, path: str) -> ChatMessage:
    if block.tool_use_id is None:
        raise missing(f"{path}.tool_use_id")
    said = _text(block.content or "", path)
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": f"Error: {said}" if block.is_error else said}


def _text(content: str | list[Block], path: str) -> str:
    if isinstance(content, str):
        return content
    for index, block in enumerate(content):
        if block.type not in ("text", "redacted_thinking"):
            raise unsupported(f"{path}[{index}].type", f"'{block.type}' blocks are not understood by the models here")
    return "".join(block.text or "" for block in content)


def _tools(tools: list[AnthropicTool] | None) -> list[dict[str, Any]] | None:
    return [_tool(tool, index) for index, tool in enumerate(tools)] if tools else None


def _tool(tool: AnthropicTool, index: int) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise unsupported(f"tools[{index}].type", f"'{tool.type}' tools are not supported, only 'custom' tools are")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema or {"type": "object"}}
    function |= {"description": tool.description} if tool.description else {}
    return {"type": "function", "function": function}


def _choice(choice: AnthropicChoice | None) -> str | dict[str, Any] | None:
    match choice:
        case None:
            return None
        case AnthropicChoice(type="any"):
            return "required"
        case AnthropicChoice(type="tool", name=name):
            if name is None:
                raise missing("tool_choice.name")
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice.type
