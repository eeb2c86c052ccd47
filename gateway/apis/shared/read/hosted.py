"""Tools that only their makers' own servers or models know. An offer is not a demand: what nobody runs here is left out
of what the model sees, and the answer's header tells so. A choice that names one is refused."""

from collections.abc import Iterable

from millstream.common.errors import BadRequest
from millstream.gateway.apis.shared.read.messages import unsupported

# Each stands for itself and for its dated and variant names: `web_search_preview_2025_03_11`, `bash_20250124`.
FAMILIES = (
    "advisor",
    "apply_patch",
    "bash",
    "code_execution",
    "code_interpreter",
    "computer",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "memory",
    "programmatic_tool_calling",
    "shell",
    "text_editor",
    "tool_search",
    "web_fetch",
    "web_search",
)


def hosted_family(kind: str) -> str | None:
    """Returns the family of a hosted tool's type; None for a type that is none of them."""
    return next((family for family in FAMILIES if kind == family or kind.startswith(f"{family}_")), None)


def families_of(kinds: Iterable[str | None]) -> list[str]:
    """Returns the families among the tools' types, each once, in their order."""
    found = (hosted_family(kind) for kind in kinds if kind is not None)
    return list(dict.fromkeys(family for family in found if family is not None))


def unknown_kind(path: str, kind: str, known: str) -> BadRequest:
    """Returns the error for a tool of a type that nobody knows."""
    return unsupported(path, f"'{kind[:80]}' tools are not supported, only {known} tools are")


def hosted_choice(path: str, kind: str) -> BadRequest:
    """Returns the error for a choice of a tool that was left out: what is demanded must be there."""
    return unsupported(path, f"'{kind[:80]}' tools do not run here; they may be offered, but not chosen")
