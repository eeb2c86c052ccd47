"""One model's chat template: what it shows, how it wants a call spelt, and messages rendered by it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import Shown, TemplateRefused

_Messages = list[dict[str, Any]]


class ChatTemplate:
    """Renders messages to text. What the template shows is found out with a small conversation, when it is first
    asked for: a template may name tools without showing them, and show calls only in one spelling."""

    def __init__(self, inner: PreTrainedTokenizerBase, override: str | None) -> None:
        self._inner = inner
        self._given: Any = override or inner.chat_template

    @property
    def text(self) -> str:
        """Returns the template, empty if the model has none; of several, the plain one and that for tools."""
        if isinstance(self._given, dict):
            chosen = dict.fromkeys((self._chosen([]), self._chosen([_TOOL])))
            return "\n".join(chosen)
        return self._given or ""

    def _chosen(self, tools: _Messages) -> str:
        """Some models have a template of its own for conversations with tools."""
        if not isinstance(self._given, dict):
            return self._given or ""
        plain = self._given.get("default") or next(iter(self._given.values()), "")
        return self._given.get("tool_use", plain) if tools else plain

    @cached_property
    def shown(self) -> Shown:
        """Returns what the template puts before its model's eyes."""
        several = self._tried(_SYSTEMS, [])
        parallel = self._probed(self._spelling, [], _PARALLEL)
        return Shown(
            tools=_TOOL_NAME in self._tried(_SYSTEMS[-1:], [_TOOL]),
            calls=_calls_in(self._probed(self._spelling, [])),
            calls_with_tools=_calls_in(self._probed(self._spelling, [_TOOL])),
            systems=not several or all(message["content"] in several for message in _SYSTEMS),
            parallel=_SECOND in parallel or not _calls_in(parallel),
        )

    @cached_property
    def _spelling(self) -> "_Spelling":
        """The spelling of calls of which the template shows most."""
        return max(
            _SPELLINGS, key=lambda spelling: max(map(_worth, (self._probed(spelling, t) for t in ([], [_TOOL]))))
        )

    def _probed(self, spelling: "_Spelling", tools: _Messages, probe: _Messages | None = None) -> str:
        return self._tried(_plain(probe or _CALLS, spelling), tools)

    def _tried(self, messages: _Messages, tools: _Messages) -> str:
        try:
            return self._apply(messages, tools, False, {})
        except _REFUSALS:
            return ""

    def render(self, messages: _Messages, tools: _Messages, go_on: bool, kwargs: dict[str, Any]) -> str:
        """Returns the prompt. `go_on`: the last message is the assistant's beginning. Raises `BadRequest`, and
        `TemplateRefused` where the same in other messages might be accepted."""
        free = _free(kwargs)
        called = any(message.get("tool_calls") for message in messages)
        plain = _plain(messages, self._spelling if called else _Spelling())
        try:
            return self._apply(plain, tools, go_on, free)
        except _REFUSALS as error:
            why = f"The model's chat template refuses these messages: {error}"
            raise TemplateRefused(why, param="messages") from error

    def _apply(self, messages: _Messages, tools: _Messages, go_on: bool, kwargs: dict[str, Any]) -> str:
        return str(
            self._inner.apply_chat_template(
                messages,
                tools=[*tools] or None,
                chat_template=self._chosen(tools),
                tokenize=False,
                add_generation_prompt=not go_on,
                continue_final_message=go_on,
                **kwargs,
            )
        )


@dataclass(frozen=True, slots=True)
class _Spelling:
    """The way a template wants calls. `as_text`: the arguments as JSON text, not as an object. `apart`: what was said
    with the calls stands in a message before them. `null`: the content of a message with calls is then none."""

    as_text: bool = False
    apart: bool = False
    null: bool = False


_SPELLINGS = [
    _Spelling(as_text, apart, null)
    for as_text in (False, True)
    for apart, null in ((False, False), (True, False), (True, True))
]
_REFUSALS = (TemplateError, ValueError, TypeError, KeyError, IndexError, AttributeError)
_TOOL_NAME, _SAID, _RESULT = "probe_lookup", "probe-words", "probe-result"
_ARGUMENT, _SECOND = "probe-argument", "probe-other-argument"
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": _TOOL_NAME,
        "description": "A probe",
        "parameters": {"type": "object", "properties": {"key": {"type": "string", "description": "A key"}}},
    },
}
_SYSTEMS: _Messages = [
    {"role": "system", "content": "probe-one"},
    {"role": "system", "content": "probe-two"},
    {"role": "user", "content": "probe-three"},
    {"role": "assistant", "content": "probe-four"},
    {"role": "system", "content": "probe-five"},
    {"role": "user", "content": "probe-six"},
]


def _call(id: str, argument: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": _TOOL_NAME, "arguments": json.dumps({"key": argument})}}


def _round(*calls: dict[str, Any]) -> _Messages:
    results = [{"role": "tool", "tool_call_id": call["id"], "name": _TOOL_NAME, "content": _RESULT} for call in calls]
    return [{"role": "assistant", "content": _SAID, "tool_calls": list(calls)}, *results]


_ONE, _TWO = _call("probecal1", _ARGUMENT), _call("probecal2", _ARGUMENT)
_CALLS: _Messages = [{"role": "user", "content": "hi"}, *_round(_ONE), *_round(_TWO)]
_PARALLEL: _Messages = [{"role": "user", "content": "hi"}, *_round(_ONE, _call("probecal2", _SECOND))]


def _calls_in(rendered: str) -> bool:
    return _ARGUMENT in rendered and _RESULT in rendered


def _worth(rendered: str) -> int:
    return (1 + (_SAID in rendered)) if _calls_in(rendered) else 0


_RESERVED = {
    *("messages", "conversation", "tools", "tokenize", "chat_template", "add_generation_prompt"),
    *("continue_final_message", "return_dict", "return_tensors", "padding", "truncation", "max_length"),
}


def _free(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the template's own variables, without what would change the call itself."""
    if taken := _RESERVED & kwargs.keys():
        raise BadRequest(f"chat_template_kwargs cannot set {', '.join(sorted(taken))}.", param="chat_template_kwargs")
    return kwargs


def _plain(messages: _Messages, spelling: _Spelling) -> _Messages:
    """Returns messages as templates expect them: `developer` is `system`, no null content, calls as `spelling`
    says."""
    plain: _Messages = []
    for message in messages:
        words = message.get("content") or ""
        if not message.get("tool_calls"):
            role = "system" if message.get("role") == "developer" else message.get("role")
            plain.append({**message, "role": role, "content": words})
            continue
        if spelling.apart and words:
            plain.append({"role": "assistant", "content": words})
        beside = words if not spelling.apart else None if spelling.null else ""
        calls = [_plain_call(call, spelling) for call in message["tool_calls"]]
        plain.append({**message, "content": beside, "tool_calls": calls})
    return plain


def _plain_call(call: dict[str, Any], spelling: _Spelling) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    given = function.get("arguments") or "{}"
    if spelling.as_text:
        function["arguments"] = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        return {**call, "function": function}
    try:
        function["arguments"] = json.loads(given)
    except (TypeError, ValueError):
        pass  # already an object, or text the template may show as it is
    return {**call, "function": function}
