"""The blocks of a message's content as text, which is all that the models here read."""

from typing import Any, cast

from millstream.common.errors import BadRequest
from millstream.gateway.apis.anthropic.shape import Block, Content
from millstream.gateway.apis.shared.read.messages import SEEN_BELOW, left_out_text, unsupported
from millstream.gateway.errors.table import FieldError
from millstream.gateway.errors.validation import shaped
from millstream.gateway.requests.vision import Vision

BILLING = "x-anthropic-billing-header:"  # a block of the system prompt that is another one in each request
NO_IMAGE = "Could not process image"  # Anthropic's words: on these Claude Code takes the image out and goes on


def block_text(content: Content | None, path: str) -> str:
    """Returns the blocks joined. Raises `BadRequest` naming the block that is no text."""
    return _joined(content, path, in_result=False)


def result_text(content: Content | None, path: str) -> str:
    """Returns what a tool answered, with a text in the place of what is none: the client cannot help what its tools
    answer."""
    return _joined(content, path, in_result=True)


def image_source(block: Block) -> str | None:
    """Returns an image's `data:` URL or its address; None for a block that is no image, or names a file."""
    source = block.source if isinstance(block.source, dict) else {}
    if block.type != "image":
        return None
    if source.get("type") == "base64":
        return f"data:{source.get('media_type') or 'image/png'};base64,{source.get('data') or ''}"
    return str(source.get("url") or "") if source.get("type") == "url" else None


def image_blocks(blocks: list[Block]) -> list[Block]:
    """Returns the images among the blocks, those of tools' results included."""
    inner = [each for block in blocks if isinstance(block.content, list) for each in image_blocks(block.content)]
    return [*inner, *(block for block in blocks if image_source(block) is not None)]


def seen_parts(blocks: list[Block], path: str, vision: Vision) -> list[dict[str, Any]]:
    """Returns the blocks as parts of a chat's message, images among them. Raises `BadRequest` naming the block."""
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        source = image_source(block)
        if source is None:
            parts.append({"type": "text", "text": _told(block, f"{path}[{index}]", in_result=False)})
        else:
            seen = vision.data_url(source, f"{path}[{index}].source")
            parts.append({"type": "image_url", "image_url": {"url": seen}})
    return parts


def image_shown_below(content: Content | None, shown: list[Block]) -> Content | None:
    """Returns a tool's result with a hint in the place of each image that is shown after it."""
    if not isinstance(content, list):
        return content
    hint = Block(type="text", text=SEEN_BELOW)
    return [hint if block in shown else block for block in content]


def system_text(content: Content | None) -> str:
    """Returns the system prompt without what is about billing: it would keep every cached prompt beginning apart."""
    if isinstance(content, list):
        content = [block for block in content if not (block.text or "").startswith(BILLING)]
    elif isinstance(content, str) and content.startswith(BILLING):
        content = content.partition("\n")[2]
    return block_text(content, "system")


def _joined(content: Content | None, path: str, *, in_result: bool) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, dict):
        raise unsupported(path, "expected a text or a list of blocks")
    return "".join(_told(block, f"{path}[{index}]", in_result) for index, block in enumerate(content))


def _told(block: Block, path: str, in_result: bool) -> str:
    match block.type:
        case "text" | "redacted_thinking":
            return block.text or ""
        case "tool_reference":
            return f"The tool `{block.tool_name}` can be called now.\n"
        case "search_result":
            return _titled([block.title, str(block.source or "")], result_text(block.content, path))
        case "document" if (said := _document(block, path)) is not None:
            return _titled([block.title, block.context], said)
        case kind:
            if in_result:
                return left_out_text(kind)
            raise _no_text(kind, path)


def _document(block: Block, path: str) -> str | None:
    """Returns a document's text; None for one that has none to read."""
    source = block.source if isinstance(block.source, dict) else {}
    if source.get("type") == "text":
        return str(source.get("data") or "")
    if source.get("type") != "content":
        return None
    inner = source.get("content")
    if isinstance(inner, list):
        return result_text([shaped(Block, each) for each in cast(list[Any], inner)], path)
    return str(inner or "")


def _titled(lines: list[str | None], said: str) -> str:
    return "\n".join([*(line for line in lines if line), said]) + "\n"


def _no_text(kind: str, path: str) -> BadRequest:
    if kind == "image":
        message = f"{path}: {NO_IMAGE}: the models here read text only."
        return FieldError(message, param=path, wire_code="invalid_value")
    return unsupported(f"{path}.type", f"'{kind}' blocks are not understood by the models here")
