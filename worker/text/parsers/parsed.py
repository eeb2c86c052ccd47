"""The result of a parser so far."""

from dataclasses import dataclass, field

from millstream.common.chunk import ToolDelta


@dataclass(slots=True)
class Parsed:
    """The results that one piece of text turned into; parsers add to it."""

    text: str = ""
    reasoning: str = ""
    tools: list[ToolDelta] = field(default_factory=list[ToolDelta])

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.tools)
