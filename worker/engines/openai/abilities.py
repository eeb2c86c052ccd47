"""The abilities of an upstream, as its probe found them, and how exact a continuation they allow."""

from collections.abc import Iterator
from dataclasses import dataclass

from millstream.common.job import ChatPrompt, Exactness, JobRequest, TextPrompt

TOLD = {  # as the log, the card and `doctor` name them
    "chat": "chat",
    "completions": "completions",
    "embeddings": "embeddings",
    "reranks": "rerank",
    "usage": "usage",
    "seed": "seed",
    "logprobs": "logprobs",
    "tools": "tools",
    "formats": "formats",
    "images": "images",
    "goes_on": "continued messages",
    "token_ids": "token ids",
    "tokenizes": "tokenize",
    "reasons": "reasoning",
}


@dataclass(frozen=True, slots=True)
class Abilities:
    """One upstream's abilities. `slots` and `context_length` are 0 where it does not tell them."""

    server: str = "OpenAI server"
    model: str = ""
    identity: str = ""  # what tells this model from another of the same name, if the server says something
    slots: int = 0
    context_length: int = 0
    chat: bool = False
    completions: bool = False
    dimensions: int = 0  # of its vectors; 0: it makes none
    reranks: bool = False
    inputs: int = 0  # texts in one request for vectors or scores; 0: it does not tell
    usage: bool = False  # streams end with token counts
    seed: bool = False  # accepted, and the same seed gives the same text
    logprobs: bool = False
    tools: bool = False
    formats: bool = False  # response formats are followed
    images: bool = False
    goes_on: bool = False  # it can be made to go on from the beginning of an assistant's message
    token_ids: bool = False  # takes and gives token ids
    tokenizes: bool = False
    reasons: bool = False
    newer_bound: bool = False  # knows `max_completion_tokens` only

    @property
    def generates(self) -> bool:
        return self.chat or self.completions

    @property
    def embeddings(self) -> bool:
        return self.dimensions > 0

    @property
    def found(self) -> list[str]:
        """Returns the names of what it can do."""
        return [told for name, told in TOLD.items() if getattr(self, name)]

    @property
    def missing(self) -> list[str]:
        """Returns the names of what it cannot do, as far as a server that writes might."""
        expected = TOLD.keys() - {"reasons", "embeddings", "reranks"} if self.generates else set[str]()
        return [told for name, told in TOLD.items() if name in expected and not getattr(self, name)]

    def exactness(self, request: JobRequest) -> Exactness:
        """Returns what a continuation of this request may promise once it has begun."""
        if request.guide is not None or request.tool_use is not None or request.echo:
            return "restart"  # a grammar would begin anew, a call become prose
        match request.input:
            case ChatPrompt():
                return "text" if self.goes_on and not self.reasons else "restart"
            case TextPrompt():
                return "text"
            case _:
                return "restart"

    def exactnesses(self) -> Iterator[tuple[str, Exactness]]:
        """Yields what the card says of each kind of request."""
        if self.chat:
            yield "chat", "text" if self.goes_on and not self.reasons else "restart"
        if self.completions:
            yield "completions", "text"
        if self.generates:
            yield "tools", "restart"
            yield "formats", "restart"
