"""Guides are measured before they are compiled: what is larger than the worker's limits is refused, by name.

The measuring itself takes time in proportion to the guide's length and never recurses, whatever the guide is.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide
from millstream.worker.engines.guide_limits import GuideLimits

_WHAT = {
    "bytes": "bytes long",
    "depth": "levels deep",
    "rules": "rules, definitions and references",
    "properties": "properties",
    "strings": "strings to choose from",
    "regex": "characters in one regular expression",
}
_LARK = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\\n])+/|%json\s*|:')
_BRACKETS = re.compile(r'"(?:\\.|[^"\\])*"|[\[{\]}]')
_DECODER = json.JSONDecoder()


def check(guide: Guide, limits: GuideLimits) -> None:
    """Raises `BadGrammar` naming the limit, the guide's own figure and the parameter."""
    _within(Counter(bytes=len(guide.value.encode())), limits, f"The {guide.kind} guide", guide.param)
    _within(_measures(guide), limits, f"The {guide.kind} guide", guide.param)


def check_parameters(function: dict[str, Any], index: int, limits: GuideLimits) -> None:
    """Checks a tool's parameters in the same way. Raises `BadGrammar` that names the tool."""
    label = f"The schema of the parameters of the tool `{function['name']}`"
    _within(_schema_measures(function.get("parameters")), limits, label, f"tools[{index}].function.parameters")


def _within(measures: Counter[str], limits: GuideLimits, label: str, param: str) -> None:
    for name, found in measures.items():
        most: int = getattr(limits, name)
        if found > most:
            has = "is" if name in ("bytes", "depth") else "has"
            raise BadGrammar(
                f"{label} {has} {found} {_WHAT[name]}, and this server compiles at most {most} (its setting "
                f"`guide_{name}`). Make it smaller.",
                param=param,
            )


def _measures(guide: Guide) -> Counter[str]:
    match guide.kind:
        case "json_object":
            return Counter()
        case "regex":
            return Counter(regex=len(guide.value))
        case "grammar":
            return _lark_measures(guide.value)
        case "choice" | "json_schema":
            return _json_measures(guide.value)


def _json_measures(text: str) -> Counter[str]:
    """Measures a schema or a list of choices; nothing for what is no JSON, which the compiler tells better."""
    try:
        value = json.loads(text)
    except ValueError:
        return Counter()
    except RecursionError:
        return Counter(depth=_depth(text))
    if isinstance(value, list):
        return Counter(strings=len(cast(list[Any], value)))
    return _schema_measures(value)


def _depth(text: str) -> int:
    """Returns how deep the brackets of a JSON text nest."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket, 0)
        deepest = max(deepest, depth)
    return deepest


def _schema_measures(schema: Any) -> Counter[str]:
    """Counts what a schema has in all its parts. A property that is called like a keyword counts as one: rather too
    much."""
    found: Counter[str] = Counter()
    for node, depth in _nodes(schema):
        found["depth"] = max(found["depth"], depth)
        if isinstance(node, dict):
            _count_keywords(cast(dict[str, Any], node), found)
    return found


def _nodes(value: Any) -> Iterator[tuple[Any, int]]:
    """All objects and arrays with their depth, the outermost at 1."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, dict | list):
            yield node, depth
            inner = cast(list[Any], list(cast(Any, node).values()) if isinstance(node, dict) else node)
            waiting += [(each, depth + 1) for each in inner if isinstance(each, dict | list)]


def _count_keywords(node: dict[str, Any], found: Counter[str]) -> None:
    found["rules"] += sum(len(node[key]) for key in ("$defs", "definitions") if isinstance(node.get(key), dict))
    found["rules"] += isinstance(node.get("$ref"), str)
    for key in ("properties", "patternProperties"):
        if isinstance(node.get(key), dict):
            found["properties"] += len(node[key])
    if isinstance(node.get("enum"), list):
        found["strings"] += len(node["enum"])
    patterns = [node.get("pattern"), *(node["patternProperties"] if _is_object(node, "patternProperties") else ())]
    found["regex"] = max(found["regex"], *(len(each) if isinstance(each, str) else 0 for each in patterns))


def _is_object(node: dict[str, Any], key: str) -> bool:
    return isinstance(node.get(key), dict)


def _lark_measures(grammar: str) -> Counter[str]:
    """Every rule has a colon; what is in strings, expressions and comments does not count."""
    found: Counter[str] = Counter()
    at = 0
    while (token := _LARK.search(grammar, at)) is not None:
        at = token.end()
        match token[0][0]:
            case ":":
                found["rules"] += 1
            case '"':
                found["strings"] += 1
            case "/":
                found["regex"] = max(found["regex"], len(token[0]))
            case "%":
                at = _embedded(grammar, at, found)
            case _:
                pass
    return found


def _embedded(grammar: str, at: int, found: Counter[str]) -> int:
    """Count the JSON schema that begins there; where it ends."""
    try:
        schema, end = _DECODER.raw_decode(grammar, at)
    except ValueError:
        return at
    except RecursionError:
        found["depth"] = max(found["depth"], _depth(grammar[at:]))
        return len(grammar)
    for name, count in _schema_measures(schema).items():
        found[name] = max(found[name], count) if name in ("depth", "regex") else found[name] + count
    return end
