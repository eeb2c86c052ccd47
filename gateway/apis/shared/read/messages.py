"""Turns messages into what a chat template reads: parts joined to text, the older function form made tool calls."""

from typing import Any, assert_never

from millstream.common.errors import BadRequest
from millstream.gateway.apis.shared.read.custom_tools import custom_arguments
from millstream.gateway.apis.shared.shapes.messages import (
    CalledCustom,
    CalledFunction,
    ImageSource,
    Message,
    Part,
    ToolCall,
)
from millstream.gateway.errors.table import FieldError

ChatMessage = dict[str, Any]  # as a chat template reads it

IMAGE = "image_url"
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
LEGACY_ID = "call_{index}"  # the older form has no ids; a call and its answer meet by their order


def template_messages(messages: list[Message], *, sees: bool = False) -> list[ChatMessage]:
    """Returns the messages for the template; `sees` tells whether the model reads images. Raises `BadRequest` naming
    the message and field, e.g. `messages[2].content[0]`."""
    return [_message(message, index, sees) for index, message in enumerate(messages)]


def shows_images(messages: list[Message]) -> bool:
    """Tells whether a part of a message is an image."""
    return any(part.type == IMAGE for message in messages for part in _parts(message))


def _parts(message: Message) -> list[Part]:
    return message.content if isinstance(message.content, list) else []


def _message(message: Message, index: int, sees: bool) -> dict[str, Any]:
    path = f"messages[{index}]"
    said = tool_text if message.role in ("tool", "function") else text
    seen = sees and message.role == "user" and any(part.type == IMAGE for part in _parts(message))
    content = _seen(_parts(message), f"{path}.content") if seen else said(message.content, f"{path}.content")
    out: dict[str, Any] = {"role": message.role, "content": content}
    if message.name:
        out["name"] = message.name
    match message.role:
        case "assistant":
            return out | _assistant(message, index)
        case "tool":
            if message.tool_call_id is None:
                raise missing(f"{path}.tool_call_id")
            return out | {"tool_call_id": message.tool_call_id}
        case "function":
            return out | {"role": "tool", "tool_call_id": LEGACY_ID.format(index=index - 1)}
        case "system" | "developer" | "user":
            if message.content is None:
                raise missing(f"{path}.content")
            return out
        case _:
            assert_never(message.role)


def _assistant(message: Message, index: int) -> dict[str, Any]:
    if message.audio is not None:
        raise unsupported(f"messages[{index}].audio", "audio is not understood by the models here")
    calls = [_earlier(call, f"messages[{index}].tool_calls[{at}]") for at, call in enumerate(message.tool_calls or [])]
    if message.function_call is not None:
        calls.append(_call(LEGACY_ID.format(index=index), message.function_call))
    out: dict[str, Any] = {"tool_calls": calls} if calls else {}
    if message.reasoning_content:
        out["reasoning_content"] = message.reasoning_content
    if message.content is None and message.refusal:
        out["content"] = message.refusal
    elif message.content is None and not calls:
        raise missing(f"messages[{index}].content")
    return out


def _earlier(call: ToolCall, path: str) -> dict[str, Any]:
    match call:
        case ToolCall(type="custom", custom=CalledCustom(name=name, input=given)):
            return _call(call.id, CalledFunction(name=name, arguments=custom_arguments(given)))
        case ToolCall(type="function", function=CalledFunction() as function):
            return _call(call.id, function)
        case _:
            raise missing(f"{path}.{call.type}")


def _call(identity: str, function: CalledFunction) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": function.name, "arguments": function.arguments}}


def _seen(parts: list[Part], path: str) -> list[dict[str, Any]]:
    """Returns parts of which some are images, as the upstream reads them."""
    return [
        _image(part, f"{path}[{n}]") if part.type == IMAGE else _words(part, f"{path}[{n}]")
        for n, part in enumerate(parts)
    ]


def _words(part: Part, path: str) -> dict[str, Any]:
    return {"type": "text", "text": _part(part, path)}


def _image(part: Part, path: str) -> dict[str, Any]:
    if part.image_url is None:
        raise missing(f"{path}.image_url")
    source = ImageSource(url=part.image_url) if isinstance(part.image_url, str) else part.image_url
    if not source.url.startswith("data:image/"):
        message = f"Invalid '{path}.image_url.url': give the image itself, as a URL that begins with 'data:image/'."
        raise FieldError(message, param=f"{path}.image_url.url", wire_code="invalid_value")
    detail = {"detail": source.detail} if source.detail else {}
    return {"type": IMAGE, "image_url": {"url": source.url, **detail}}


def text(content: str | list[Part] | None, path: str) -> str:
    """Returns the parts joined without a separator, as OpenAI does; absent content is no text."""
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def tool_text(content: str | list[Part] | None, path: str) -> str:
    """Returns what a tool answered, with a text in the place of what is none. The client cannot help what its tools
    answer: an image that is refused would end the conversation for ever."""
    if isinstance(content, str) or content is None:
        return content or ""
    parts = enumerate(content)
    return "".join(
        _part(p, f"{path}[{index}]") if p.type in TEXT_PARTS else left_out_text(p.type) for index, p in parts
    )


def left_out_text(kind: str) -> str:
    """Returns what the model reads in the place of an image, a file or the like."""
    return f"[{kind.removeprefix('input_').removesuffix('_url')} left out: this model reads text only]"


def _part(part: Part, path: str) -> str:
    match part.type:
        case "text" | "input_text" | "output_text":
            if part.text is None:
                raise missing(f"{path}.text")
            return part.text
        case "refusal":
            return part.refusal or ""
        case other:
            message = f"Invalid content type: '{other}' at '{path}.type'. This model reads 'text' only."
            raise FieldError(message, param=f"{path}.type", wire_code="invalid_value")


def missing(path: str) -> FieldError:
    """Returns OpenAI's error for a field that must be there."""
    message = f"Missing required parameter: '{path}'."
    return FieldError(message, param=path, wire_code="missing_required_parameter")


def unsupported(path: str, why: str) -> BadRequest:
    """Returns OpenAI's error for a field it knows and this service refuses."""
    return FieldError(f"Unsupported parameter: '{path}': {why}.", param=path, wire_code="unsupported_parameter")
