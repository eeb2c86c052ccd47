"""Tool calls written as a Python list of function calls: `[weather(city="Paris"), now()]`."""

import ast
import json
import re
from collections.abc import Callable

from millstream.common.chunk import ToolDelta
from millstream.worker.text.parsers.parsed import Parsed


class PythonicCalls:
    """Reads an answer that begins with such a list when it is complete; anything else stays text. Where calls are
    `forced` the whole answer is calls: of a list that was cut, the whole calls are told, and the name of the last."""

    def __init__(self, call_id: Callable[[int], str], parallel: bool = True, forced: bool = False) -> None:
        self._call_id = call_id
        self._parallel = parallel
        self._forced = forced
        self._held = ""
        self._listed: bool | None = None  # whether the answer begins with a bracket; None: not known yet
        self.calls = 0

    def feed(self, text: str, out: Parsed) -> None:
        if self._listed is None:
            text, self._held = self._held + text, ""
            start = text.lstrip()
            self._listed = start[0] == "[" if start else None
        if self._listed is False:
            out.text += text
        else:
            self._held += text

    def finish(self, out: Parsed) -> None:
        """Ends the list, which is known as a whole now: its calls, or the text it was."""
        held, self._held = self._held, ""
        calls = calls_in(held)
        if calls is None and self._forced:
            calls = _cut_calls(held)
        if calls is None:
            out.text += held
            return
        for index, (name, arguments) in enumerate(calls if self._parallel else calls[:1]):
            out.tools.append(ToolDelta(index, self._call_id(index), name))
            if arguments:
                out.tools.append(ToolDelta(index, arguments=arguments))
        self.calls = len(calls)


def calls_in(written: str) -> list[tuple[str, str]] | None:
    """Returns names and arguments (JSON) of a list of calls, or None if it is none. Values are Python or JSON
    literals."""
    try:
        listed = ast.parse(written.strip(), mode="eval").body
        if not isinstance(listed, ast.List) or not listed.elts:
            return None
        return [_call(element) for element in listed.elts]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the parser's own stack is small
        return None


def _cut_calls(written: str) -> list[tuple[str, str]]:
    """Returns the whole calls of a list that was cut, and the last one's name with arguments that are empty text."""
    end = _end_of_calls(written)
    calls = (calls_in(written[:end] + "]") or []) if end else []
    begun = _BEGUN.match(written, end)
    return [*calls, (begun[1], "")] if begun is not None else calls


_BEGUN = re.compile(r"[\s,\[]*([A-Za-z_][\w.]*)\(")


def _end_of_calls(written: str) -> int:
    """Returns the index after the last call of the list that is closed; 0 if none is."""
    depth = end = 0
    quote = ""
    escaped = False
    for index, char in enumerate(written):
        if quote:
            closes = char == quote and not escaped
            escaped = char == "\\" and not escaped
            quote = "" if closes else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            end = index + 1 if depth == 1 and char == ")" else end
    return end


_JSON_NAMES = {"true": True, "false": False, "null": None}


class _Literals(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_JSON_NAMES[node.id]) if node.id in _JSON_NAMES else node


def _call(node: ast.expr) -> tuple[str, str]:
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("not a call with named arguments")
    values = {str(k.arg): ast.literal_eval(_Literals().visit(k.value)) for k in node.keywords}
    return ast.unparse(node.func), json.dumps(values, ensure_ascii=False)
