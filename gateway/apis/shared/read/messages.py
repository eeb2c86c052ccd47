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
from millstream.gateway.requests.vision import Vision

ChatMessage = dict[str, Any]  # as a chat template reads it

TOOL_ROLES = ("tool", "function")
IMAGE = "image_url"
INPUT_IMAGE = "input_image"  # as the Responses API calls it
SEEN_BELOW = "[image: see the next message]"
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
LEGACY_ID = "call_{index}"  # the older form has no ids; a call and its answer meet by their order


def template_messages(messages: list[Message], vision: Vision | None = None) -> list[ChatMessage]:
    """Returns the messages for the template; `vision`: what a model that reads images may be shown, those of tools'
    answers in a message after these. Raises `BadRequest` naming the message and field, such as
    `messages[2].content[0]`."""
    made: list[ChatMessage] = []
    shown: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        if message.role not in TOOL_ROLES and shown:
            made.append({"role": "user", "content": shown})
            shown = []
        of_tool = message.role in TOOL_ROLES or (index > 0 and _passes_on(messages[index - 1], message))
        made.append(_message(message, index, vision, of_tool))
        if vision is not None and message.role in TOOL_ROLES:
            images = [part for part in _parts(message) if can_show(part, IMAGE, vision)]
            shown += seen_parts(images, f"messages[{index}].content", vision)
            hinted = [SEEN_BELOW if part in images else tool_text([part], "") for part in _parts(message)]
            made[-1] |= {"content": "".join(hinted)} if images else {}
    return [*made, {"role": "user", "content": shown}] if shown else made


def shown_images(messages: list[Message]) -> list[str]:
    """Returns the URLs of all images in the messages."""
    return [source_of(part).url for message in messages for part in _parts(message) if part.image_url is not None]


def can_show(part: Part, kind: str, vision: Vision) -> bool:
    """Tells whether a part of this kind is an image that may be shown."""
    return part.type == kind and vision.can_show(source_of(part).url)


def source_of(part: Part) -> ImageSource:
    """Returns where a part's image is; an empty URL where it names none."""
    source = part.image_url or ""
    return ImageSource(url=source) if isinstance(source, str) else source


def _parts(message: Message) -> list[Part]:
    return message.content if isinstance(message.content, list) else []


def _passes_on(before: Message, message: Message) -> bool:
    """Tells whether a user's message is what a tool saw: a tool's answer holds text alone in OpenAI's API, so a client
    (Cline) puts its images into a message after it, before the model has said anything."""
    return message.role == "user" and before.role in TOOL_ROLES


def _message(message: Message, index: int, vision: Vision | None, of_tool: bool) -> dict[str, Any]:
    path = f"messages[{index}]"
    said = tool_text if of_tool else text
    seen = message.role == "user" and any(part.type == IMAGE for part in _parts(message))
    content: Any = (
        seen_parts(_parts(message), f"{path}.content", vision)
        if vision is not None and seen
        else said(message.content, f"{path}.content")
    )
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


def seen_parts(parts: list[Part], path: str, vision: Vision, kind: str = IMAGE) -> list[dict[str, Any]]:
    """Returns parts as the upstream reads them, images among them. `kind`: what the API calls an image. Raises
    `BadRequest` naming the part."""
    return [
        _image(part, f"{path}[{n}]", vision) if part.type == kind else _words(part, f"{path}[{n}]")
        for n, part in enumerate(parts)
    ]


def as_text(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Returns the messages without their images, for what only counts words."""
    return [
        message | {"content": "".join(part.get("text", "") for part in message["content"])}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _words(part: Part, path: str) -> dict[str, Any]:
    return {"type": "text", "text": _part(part, path)}


def _image(part: Part, path: str, vision: Vision) -> dict[str, Any]:
    if part.image_url is None:
        raise missing(f"{path}.image_url")
    source = source_of(part)
    detail = {"detail": source.detail} if source.detail else {}
    return {"type": IMAGE, "image_url": {"url": vision.data_url(source.url, f"{path}.image_url.url"), **detail}}


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
