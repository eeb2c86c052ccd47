"""The tools of a turn as a chat has them. A namespace's functions are told to the model under joined names; the answer
carries the namespace beside the bare name, as its client looks calls up."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from millstream.gateway.apis.responses.shape import FlatChoice, FlatTool
from millstream.gateway.apis.shared.read.hosted import families_of, hosted_choice, hosted_family, unknown_kind
from millstream.gateway.apis.shared.read.messages import missing

LONGEST_NAME = 128  # characters of a function's name
DIGEST = 4  # bytes of the digest that ends a name which would be longer


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool that the model may call: where the client wrote it, and how an answer names it."""

    path: str
    tool: FlatTool
    name: str
    namespace: str = ""

    @property
    def shown_name(self) -> str:
        """Returns the name that the model knows."""
        return joined_name(self.namespace, self.name)

    def chat_tool(self, preface: str = "") -> dict[str, Any]:
        """Returns the tool as a chat has it. `preface` goes before its description."""
        tool, description = self.tool, self.tool.description
        if preface:
            description = f"{preface}\n\n{description}" if description else preface
        shown = {"name": self.shown_name, "description": description}
        if tool.type == "custom":
            return {"type": "custom", "custom": shown | {"format": tool.format}}
        return {"type": "function", "function": shown | {"parameters": tool.parameters, "strict": tool.strict}}


def joined_name(namespace: str, name: str) -> str:
    """Returns the one name by which the model calls a namespace's function."""
    joined = f"{namespace.removesuffix('__')}__{name}" if namespace else name
    if len(joined) <= LONGEST_NAME:
        return joined
    digest = blake2b(joined.encode(), digest_size=DIGEST).hexdigest()
    return f"{joined[: LONGEST_NAME - len(digest) - 1]}_{digest}"


def offered_tools(tools: list[FlatTool] | None) -> list[OfferedTool]:
    """Returns what the model may call, in order; hosted tools are left out. Raises `BadRequest` naming the tool."""
    return [found for index, tool in enumerate(tools or []) for found in _offered(tool, f"tools[{index}]")]


def _offered(tool: FlatTool, path: str, namespace: str = "") -> Iterator[OfferedTool]:
    match tool.type:
        case "function" | "custom":
            if tool.name is None:
                raise missing(f"{path}.name")
            yield OfferedTool(path, tool, tool.name, namespace)
        case "namespace" if not namespace:
            if tool.name is None:
                raise missing(f"{path}.name")
            for index, inner in enumerate(tool.tools or []):
                yield from _offered(inner, f"{path}.tools[{index}]", tool.name)
        case kind:
            if hosted_family(kind) is None:
                raise unknown_kind(f"{path}.type", kind, "'function', 'custom' and 'namespace'")


def chat_tools(tools: list[FlatTool] | None) -> list[dict[str, Any]]:
    """Returns the tools as a chat has them. What a namespace says of itself stands before its first function."""
    told = {tool.name: tool.description for tool in tools or [] if tool.type == "namespace" and tool.description}
    return [each.chat_tool(told.pop(each.namespace, None) or "") for each in offered_tools(tools)]


def left_out_tools(tools: list[FlatTool] | None) -> list[str]:
    """Returns the families of the tools that nobody runs here."""
    inner = [each for tool in tools or [] if tool.type == "namespace" for each in tool.tools or []]
    return families_of(tool.type for tool in [*(tools or []), *inner])


def called_names(tools: list[dict[str, Any]]) -> dict[str, OfferedTool]:
    """Returns, by the name that the model knows, what its calls are calls of. `tools`: as a response echoes them."""
    return {each.shown_name: each for each in offered_tools([FlatTool.model_validate(tool) for tool in tools])}


def chat_choice(choice: str | FlatChoice | None, tools: list[FlatTool] | None) -> str | dict[str, Any] | None:
    """Returns the choice in a chat's terms. Raises `BadRequest` for one of a tool that nobody runs here."""
    if not isinstance(choice, FlatChoice):
        return choice
    match choice:
        case FlatChoice(type="function" | "custom"):
            return _named(choice.type, choice.name, choice.namespace, tools)
        case FlatChoice(type="allowed_tools", mode=mode, tools=allowed):
            named = [
                _named(entry.type, entry.name, entry.namespace, tools) if hosted_family(entry.type) is None else None
                for entry in allowed or []
            ]
            if None in named:
                at = named.index(None)
                raise hosted_choice(f"tool_choice.tools[{at}].type", (allowed or [])[at].type)
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode or "auto", "tools": named}}
        case _:
            return {"type": choice.type}


def _named(kind: str, name: str | None, namespace: str | None, tools: list[FlatTool] | None) -> dict[str, Any]:
    if name is None:
        return {"type": kind, kind: None}
    offered = offered_tools(tools)
    if namespace is None and name not in [each.shown_name for each in offered]:  # a bare name that is one namespace's
        namespace = next((each.namespace for each in offered if each.name == name), None)
    return {"type": kind, kind: {"name": joined_name(namespace or "", name)}}
