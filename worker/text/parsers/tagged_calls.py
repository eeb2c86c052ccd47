"""Tool calls written with a tag for each parameter, as Qwen 3 Coder, GLM 4.5, MiniMax M2 and DeepSeek V3.2 write them.

Values are not JSON there: text stands as it is, so the tag itself or the tool's own schema has to tell what is text.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Literal, cast

from millstream.common.chunk import ToolDelta
from millstream.worker.text.parsers.formats import CallFormat, CallTags
from millstream.worker.text.parsers.marks import first_mark, sure_length
from millstream.worker.text.parsers.parsed import Parsed
from millstream.worker.text.parsers.typed_values import ANYTHING, TEXT, is_text, json_of
from millstream.worker.text.stop_strings import partial

_State = Literal["text", "name", "parameters", "value", "after"]


class TaggedCalls:
    """Takes calls out of the text; their arguments are told as JSON, texts among them as they grow. What turns out to
    be no call before its name is known stays text. A call that is cut is told as far as it came."""

    def __init__(
        self,
        format: CallFormat,
        tags: CallTags,
        call_id: Callable[[int], str],
        tools: list[dict[str, Any]],
        parallel: bool = True,
    ) -> None:
        self._format, self._tags = format, tags
        self._call_id = call_id
        self._parallel = parallel
        self._parameters = {function["name"]: _properties(function) for function in map(_function, tools)}
        self._state: _State = "text"
        self._held = ""  # not decided yet
        self._raw = ""  # the marker and white space before the held text, were it no call
        self._own: dict[str, Any] = {}  # the schemas of the parameters of the call that is read
        self._told = 0  # parameters of this call
        self._schema: Any = None  # of the value that is read
        self._growing = False  # whether that value is a text that has begun to go out
        self.calls = 0

    def feed(self, text: str, out: Parsed) -> None:
        self._held += text
        while self._advance(out):
            pass

    def finish(self, out: Parsed) -> None:
        """Let go of what was held back."""
        held, self._held = self._held, ""
        undecided = self._raw + held
        if self._state in ("text", "name") and (not self.calls or undecided.strip()):
            out.text += undecided
        elif self._state == "value" and is_text(self._schema):
            self._grow(held, out)

    def _advance(self, out: Parsed) -> bool:
        """Takes one decision and tells whether another may follow."""
        match self._state:
            case "text":
                return self._text(out)
            case "name":
                return self._name(out)
            case "parameters":
                return self._next_parameter(out)
            case "value":
                return self._value(out)
            case "after":
                return self._after()

    def _text(self, out: Parsed) -> bool:
        """Lets text go, up to where a call may begin. Some models leave the marker out, and begin with the tag."""
        starts = [mark for mark in (self._format.marker, self._tags.begins) if mark]
        if (found := first_mark(self._held, starts)) is not None:
            at, mark = found
            kept = self._held[:at].rstrip()
            out.text += kept
            skipped = mark if mark == self._format.marker else ""
            self._raw = self._held[len(kept) : at] + skipped
            self._held, self._state = self._held[at + len(skipped) :], "name"
            return True
        sure = self._held[: sure_length(self._held, starts)].rstrip()
        out.text += sure
        self._held = self._held[len(sure) :]
        return False

    def _name(self, out: Parsed) -> bool:
        head = self._tags.name.match(self._held)
        if head is not None:
            self._raw, self._told = "", 0
            self._own = self._parameters.get(head[1], {})
            self.calls += 1
            self._emit(out, id=self._call_id(self.calls - 1), name=head[1])
            self._held, self._state = self._held[head.end() :], "parameters"
            return True
        if self._tags.name_so_far.fullmatch(self._held):
            return False
        out.text += self._raw + self._held[:1]
        self._raw, self._held, self._state = "", self._held[1:], "text"
        return True

    def _next_parameter(self, out: Parsed) -> bool:
        """Reads up to the next parameter's value, or the call's end. What else stands between is left out."""
        opened = self._tags.parameter.search(self._held)
        closed = self._held.find(self._tags.closes)
        if opened is not None and not 0 <= closed < opened.start():
            key = opened[1].strip()
            self._emit(out, (", " if self._told else "{") + json.dumps(key, ensure_ascii=False) + ": ")
            self._told += 1
            self._schema, self._growing = _said_by(opened) or self._own.get(key), False
            self._held, self._state = self._held[opened.end() :], "value"
            return True
        if closed < 0:
            return False
        self._emit(out, "}" if self._told else "{}")
        self._held, self._state = self._held[closed + len(self._tags.closes) :], "after"
        return True

    def _value(self, out: Parsed) -> bool:
        end = self._held.find(self._tags.value_ends)
        text = is_text(self._schema)
        if end < 0:
            if text:
                sure = len(self._held) - partial(self._held, self._tags.value_ends)
                # It may be the line break before the closing tag.
                sure -= self._tags.lines and self._held[:sure].endswith("\n")
                if sure > 0:
                    self._grow(self._held[:sure], out)
                    self._held = self._held[sure:]
            return False
        last = self._held[:end].removesuffix("\n" if self._tags.lines else "")
        if text:
            self._grow(last, out)
            self._emit(out, '"')
        else:
            self._emit(out, json_of(last.removeprefix("\n"), self._schema))
        self._held, self._state = self._held[end + len(self._tags.value_ends) :], "parameters"
        return True

    def _grow(self, text: str, out: Parsed) -> None:
        """Tells more of a text; one line break after the opening tag is not part of it."""
        if not self._growing:
            self._growing, text = True, text.removeprefix("\n" if self._tags.lines else "")
            self._emit(out, '"')
        self._emit(out, json.dumps(text, ensure_ascii=False)[1:-1])

    def _after(self) -> bool:
        """Reads what comes after a call: the group's closing tag, another call of the group, or text."""
        rest, suffix, begins = self._held.lstrip(), self._format.suffix, self._tags.begins
        if begins and rest.startswith(begins):
            self._held, self._state = rest, "name"
            return True
        awaited = [mark for mark in (suffix, begins) if mark and mark != self._tags.closes]
        if any(mark.startswith(rest) and mark != rest for mark in awaited):
            return False
        self._held, self._state = rest.removeprefix(suffix) if suffix in awaited else self._held, "text"
        return True

    def _emit(self, out: Parsed, arguments: str = "", id: str = "", name: str = "") -> None:
        if (self._parallel or self.calls == 1) and (arguments or name):
            out.tools.append(ToolDelta(self.calls - 1, id, name, arguments))


def tagged(format: CallFormat, tags: CallTags, name: str, arguments: dict[str, Any]) -> str:
    """Returns a call in this notation."""
    values = "".join(_written(tags, key, value) for key, value in arguments.items())
    return f"{format.marker}{tags.wrote_name.format(name=name)}{values}{tags.wrote_end}"


def _written(tags: CallTags, key: str, value: Any) -> str:
    written, text = (value, "true") if isinstance(value, str) else (json.dumps(value, ensure_ascii=False), "false")
    return tags.wrote_parameter.format(key=key, value=written, text=text)


def _said_by(tag: re.Match[str]) -> Any:
    """Returns the schema that a value's own tag tells, None if it tells none."""
    said = tag.groupdict().get("text")
    return {"true": TEXT, "false": ANYTHING}[said] if said else None


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], tool.get("function") or {"name": ""})


def _properties(function: dict[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters")
    properties = cast(dict[str, Any], parameters).get("properties") if isinstance(parameters, dict) else None
    return cast(dict[str, Any], properties) if isinstance(properties, dict) else {}
