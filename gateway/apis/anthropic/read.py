"""Turns Anthropic's bodies into prepared requests: each is rewritten as a chat, and the chat's reader does the rest."""

import json
from typing import Any

from millstream.common.job import JobRequest, TokenizeInput
from millstream.gateway.apis.anthropic.blocks import (
    block_text,
    image_blocks,
    image_shown_below,
    image_source,
    result_text,
    seen_parts,
    system_text,
)
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
from millstream.gateway.apis.shared.read.hosted import families_of, hosted_choice, hosted_family, unknown_kind
from millstream.gateway.apis.shared.read.messages import ChatMessage, as_text, missing, unsupported
from millstream.gateway.apis.shared.read.tools import shown_tools
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared
from millstream.gateway.requests.vision import Vision


def prepare_message(body: MessageRequest, place: RequestContext) -> PreparedRequest:
    """Returns the one job of a message. Raises `BadRequest` naming the field at fault."""
    if body.container is not None:
        raise unsupported("container", "nothing is executed here")
    return prepare_chat(_chat(body, place.vision), place)


def prepare_count(body: CountRequest, place: RequestContext) -> PreparedRequest:
    """Returns a job that only counts."""
    written = as_text(messages(body, place.vision))
    work = TokenizeInput(messages=written, tools=shown_tools(_tools(body.tools) or []))
    return prepared(place, body, [JobRequest(work)])


def _chat(body: MessageRequest, vision: Vision | None) -> ChatRequest:
    config, choice = body.output_config, body.tool_choice
    written = messages(body, vision)
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
        "tool_choice": _choice(choice, body.tools),
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


def messages(body: CountRequest, vision: Vision | None = None) -> list[ChatMessage]:
    """Returns the messages in the form that chat templates read; images are seen with `vision` alone."""
    written: list[ChatMessage] = []
    if system := system_text(body.system):
        written.append({"role": "system", "content": system})
    for index, message in enumerate(body.messages):
        written += _written(message, f"messages[{index}].content", vision)
    return written


def _written(message: AnthropicMessage, path: str, vision: Vision | None) -> list[ChatMessage]:
    """Makes messages of their own from a user's tool results, before what else the user says."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    if message.role == "assistant":
        return [_assistant(message.content, path)]
    answers = [block for block in message.content if block.type == "tool_result"]
    rest = [block for block in message.content if block.type != "tool_result"]
    if vision is not None and image_blocks(message.content):
        shown = [each for each in image_blocks(answers) if vision.can_show(image_source(each) or "")]
        hinted = [block.model_copy(update={"content": image_shown_below(block.content, shown)}) for block in answers]
        seen: ChatMessage = {"role": message.role, "content": seen_parts([*shown, *rest], path, vision)}
        return [*(_result(block, path) for block in hinted), seen]
    results = [_result(block, path) for block in answers]
    return results + ([{"role": message.role, "content": block_text(rest, path)}] if rest or not results else [])


def _assistant(blocks: list[Block], path: str) -> ChatMessage:
    calls = [_call(block, path) for block in blocks if block.type == "tool_use"]
    thoughts = [block.thinking or "" for block in blocks if block.type == "thinking"]
    said = block_text([block for block in blocks if not _apart(block.type)], path)
    message: ChatMessage = {"role": "assistant", "content": said or (None if calls else "")}
    message |= {"tool_calls": calls} if calls else {}
    return message | ({"reasoning_content": "".join(thoughts)} if thoughts else {})


def _apart(kind: str) -> bool:
    """Tells whether a block of the assistant's is not part of its text: calls and thoughts, and what Anthropic's own
    tools were asked and answered, which nobody else can read."""
    return kind in ("tool_use", "thinking", "server_tool_use", "mcp_tool_use") or kind.endswith("_tool_result")


def _call(block: Block, path: str) -> dict[str, Any]:
    if block.id is None or block.name is None:
        raise missing(f"{path}.{'id' if block.id is None else 'name'}")
    function = {"name": block.name, "arguments": json.dumps(block.input or {}, ensure_ascii=False)}
    return {"id": block.id, "type": "function", "function": function}


def _result(block: Block, path: str) -> ChatMessage:
    if block.tool_use_id is None:
        raise missing(f"{path}.tool_use_id")
    said = result_text(block.content, path)
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": f"Error: {said}" if block.is_error else said}


def _tools(tools: list[AnthropicTool] | None) -> list[dict[str, Any]] | None:
    """Returns the tools as a chat has them, hosted ones included: the chat's reader leaves them out."""
    return [_tool(tool, index) for index, tool in enumerate(tools)] if tools else None


def _tool(tool: AnthropicTool, index: int) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        if hosted_family(tool.type) is None:
            raise unknown_kind(f"tools[{index}].type", tool.type, "'custom'")
        return {"type": tool.type}
    if tool.name is None:
        raise missing(f"tools[{index}].name")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema or {"type": "object"}}
    function |= {"description": tool.description} if tool.description else {}
    return {"type": "function", "function": function}


def shown_images(body: CountRequest) -> list[str]:
    """Returns the URLs of all images in the messages."""
    blocks = [block for message in body.messages if isinstance(message.content, list) for block in message.content]
    return [source for block in image_blocks(blocks) if (source := image_source(block)) is not None]


def left_out_tools(body: CountRequest) -> list[str]:
    """Returns the families of the tools that nobody runs here, connected servers among them."""
    servers = ["mcp"] if isinstance(body, MessageRequest) and body.mcp_servers else []
    return families_of([*(tool.type for tool in body.tools or []), *servers])


def _choice(choice: AnthropicChoice | None, tools: list[AnthropicTool] | None) -> str | dict[str, Any] | None:
    match choice:
        case None:
            return None
        case AnthropicChoice(type="any"):
            return "required"
        case AnthropicChoice(type="tool", name=name):
            if name is None:
                raise missing("tool_choice.name")
            for tool in tools or []:
                if tool.name == name and tool.type not in (None, "custom"):
                    raise hosted_choice("tool_choice.name", tool.type)
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice.type
