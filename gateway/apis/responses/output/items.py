"""The items of a response's output as they grow, each telling its own events."""

from typing import Any, Protocol

from millstream.common.chunk import TokenLogprob
from millstream.gateway.apis.responses.input.sealing import sealed
from millstream.gateway.apis.shared.write.logprobs import chat_token

ResponseEvent = dict[str, Any]  # without its sequence number


class OutputItem(Protocol):
    """An item under way at `index` of the output."""

    index: int

    def opening(self) -> list[ResponseEvent]: ...

    def closing(self, status: str) -> list[ResponseEvent]: ...

    def object(self, status: str) -> dict[str, Any]: ...


def added(item: OutputItem) -> ResponseEvent:
    return {"type": "response.output_item.added", "output_index": item.index, "item": item.object("in_progress")}


def done(item: OutputItem, status: str) -> ResponseEvent:
    return {"type": "response.output_item.done", "output_index": item.index, "item": item.object(status)}


class MessageItem:
    """The answer's text."""

    def __init__(self, digits: str, index: int, logprobs: bool) -> None:
        self.index = index
        self._id = f"msg_{digits}{index:02x}"
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._wanted = logprobs
        self._at = {"item_id": self._id, "output_index": index, "content_index": 0}

    def opening(self) -> list[ResponseEvent]:
        return [added(self), {"type": "response.content_part.added", **self._at, "part": self._part()}]

    def grow(self, text: str, tokens: list[TokenLogprob]) -> ResponseEvent:
        """Adds a piece of text."""
        self._texts.append(text)
        told = [chat_token(token) for token in tokens] if self._wanted else []
        self._logprobs += told
        return {"type": "response.output_text.delta", **self._at, "delta": text, "logprobs": _brief(told)}

    def closing(self, status: str) -> list[ResponseEvent]:
        text = "".join(self._texts)
        return [
            {"type": "response.output_text.done", **self._at, "text": text, "logprobs": _brief(self._logprobs)},
            {"type": "response.content_part.done", **self._at, "part": self._part()},
            done(self, status),
        ]

    def _part(self) -> dict[str, Any]:
        text = "".join(self._texts)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs}

    def object(self, status: str) -> dict[str, Any]:
        content = [self._part()] if self._texts or status != "in_progress" else []
        return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": content}


def _brief(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the logprobs as events carry them: without the bytes, which only the item has."""
    return [
        {name: _brief(value) if name == "top_logprobs" else value for name, value in token.items() if name != "bytes"}
        for token in tokens
    ]


class ReasoningItem:
    """The thoughts of the model before it answered."""

    def __init__(self, digits: str, index: int, seal: bool) -> None:
        self.index = index
        self._id = f"rs_{digits}{index:02x}"
        self._texts: list[str] = []
        self._seal = seal
        self._at = {"item_id": self._id, "output_index": index, "content_index": 0}

    def opening(self) -> list[ResponseEvent]:
        return [added(self), {"type": "response.content_part.added", **self._at, "part": self._part()}]

    def grow(self, text: str) -> ResponseEvent:
        """Adds a piece of thought."""
        self._texts.append(text)
        return {"type": "response.reasoning_text.delta", **self._at, "delta": text}

    def closing(self, status: str) -> list[ResponseEvent]:
        part = self._part()
        return [
            {"type": "response.reasoning_text.done", **self._at, "text": part["text"]},
            {"type": "response.content_part.done", **self._at, "part": part},
            done(self, status),
        ]

    def _part(self) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": "".join(self._texts)}

    def object(self, status: str) -> dict[str, Any]:
        part = self._part()
        content = [part] if self._texts else []
        item = {"id": self._id, "type": "reasoning", "summary": [], "content": content, "status": status}
        return item | {"encrypted_content": sealed(part["text"])} if self._seal else item
