"""One job's chunks folded into what they say as a whole: the non-streaming answer is made from it."""

from dataclasses import dataclass, field

from millstream.common.chunk import Chunk, FinishReason, Result, SpokenSlice, Start, TokenLogprob, ToolDelta, Usage
from millstream.common.errors import from_failure


@dataclass(slots=True)
class CalledTool:
    """A tool call put together."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Accumulator:
    """The sum of a job's chunks so far."""

    start: Start = field(default_factory=lambda: Start(prompt_tokens=0))
    texts: list[str] = field(default_factory=list[str])
    thoughts: list[str] = field(default_factory=list[str])
    tools: dict[int, CalledTool] = field(default_factory=dict[int, CalledTool])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    finish: FinishReason | None = None
    usage: Usage = field(default_factory=Usage)
    result: Result | None = None
    stopped_by: str = ""
    ended: int = 0  # seconds since the epoch
    slices: list[SpokenSlice] = field(default_factory=list[SpokenSlice])  # of a recording
    ids: list[int] = field(default_factory=list[int])  # of all tokens made

    def add(self, chunk: Chunk) -> None:
        """Raises the chunk's own error, if it tells of one."""
        if chunk.error is not None:
            raise from_failure(chunk.error)
        if chunk.start is not None:
            self.start = chunk.start
        if chunk.text:
            self.texts.append(chunk.text)
        if chunk.reasoning:
            self.thoughts.append(chunk.reasoning)
        for delta in chunk.tools:
            self._grow(delta)
        self.logprobs += chunk.logprobs
        self.ids += chunk.ids
        if chunk.slice is not None:
            self.slices.append(chunk.slice)
        self.ended = chunk.ended or self.ended
        self.result = chunk.result or self.result
        self.finish = chunk.finish or self.finish
        self.stopped_by = chunk.stopped_by or self.stopped_by
        self.usage = chunk.usage or self.usage

    def _grow(self, delta: ToolDelta) -> None:
        call = self.tools.setdefault(delta.index, CalledTool("", "", ""))
        call.id = call.id or delta.id
        call.name += delta.name
        call.arguments += delta.arguments

    @property
    def text(self) -> str:
        """Returns the answer's text."""
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        """Returns the model's thoughts before it answered."""
        return "".join(self.thoughts)

    @property
    def calls(self) -> list[CalledTool]:
        """Returns the tool calls, in order."""
        return [self.tools[index] for index in sorted(self.tools)]
