"""The contract between the worker and its engines. There are three kinds, told apart by `kind`; what the worker does
with each is in `worker.jobs.drivers`.

A *token engine* takes and gives token ids only; text belongs to `worker.engines.tokenizer` and `worker.text`. It runs
all its sequences in one batch and calls `sink` once per step, on the event loop's thread, with one `Output` for each
token it made. Generation ends inside the engine for an end-of-sequence token, a `stop_token_ids` token or `max_tokens`;
stop *strings* are the worker's business, which then calls `abort`.

A *text engine* takes a whole request and gives what its answer says, piece by piece: templates, stop strings, tool
calls and grammars are its own business. A *computing engine* makes vectors and scores, and generates nothing.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol

import msgspec

from millstream.common.chunk import Chunk, Filling, Result, TokenClass
from millstream.common.errors import BadRequest, EngineError, MillstreamError
from millstream.common.job import Exactness, Guide, JobRequest, Sampling, WorkInput
from millstream.worker.engines.guide_limits import GuideLimits

SequenceKey = NewType("SequenceKey", str)  # "<job>#<grant>": ours, never the client's id


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """One job as the engine sees it. `generated` holds the tokens an earlier lease already made: the engine goes on
    after them exactly as if it had made them itself (noise, penalties, grammar and counters continue)."""

    key: SequenceKey
    prompt: list[int]
    sampling: Sampling
    max_tokens: int  # completion tokens in all, `generated` included; the worker has resolved "room left"
    generated: list[int] = field(default_factory=list[int])
    guide: Guide | None = None
    prompt_logprobs: int | None = None
    banned: list[list[int]] = field(default_factory=list[list[int]])  # sequences of tokens that are never completed
    cache_salt: str = ""  # only sequences of the same salt share what the prefix cache holds
    adapter: str = ""  # digest of the adapter that counts; the engine itself sets it


@dataclass(frozen=True, slots=True)
class RawLogprob:
    """Natural-log probability of the chosen token and of the most likely ones `(id, logprob)`, best first."""

    logprob: float | None
    top: list[tuple[int, float]]


class Output(msgspec.Struct, frozen=True):
    """One new token of one sequence, or its failure (`error`, then nothing else counts). After an output with
    `finish` or `error` the engine has forgotten the sequence. `finish == "stop"`: `token` is the stop token itself."""

    key: SequenceKey
    token: int = -1
    logprob: RawLogprob | None = None
    finish: Literal["stop", "length"] | None = None
    error: MillstreamError | None = None
    cached: int = 0  # prompt tokens served from the prefix cache, told with the first token
    prompt_logprobs: list[RawLogprob] | None = None  # told with the first token (or alone when max_tokens is 0)


Sink = Callable[[list[Output]], None]
LoadProgress = Callable[[str, float | None], None]  # the stage of loading, and how far it is (0 to 1) if that is known


def silent(stage: str, fraction: float | None) -> None:
    """Is a `progress` that nobody watches."""


def unheard() -> None:
    """Is a `changed` that nobody listens to."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The announcement of a model that a worker serves; all of it is shown by `/v1/models`."""

    name: str
    engine: str
    context_length: int
    fingerprint: str = ""  # model, weights revision, engine and dtype, hashed
    capabilities: tuple[str, ...] = ("chat", "completions")  # all there are: the keys of `routes.ROUTES`
    details: Mapping[str, str] = field(default_factory=dict[str, str])  # dtype, device, revision, ...
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])  # of sampling, where a request is silent
    exactness: Mapping[str, Exactness] = field(default_factory=dict[str, Exactness])  # by kind of request


def always(level: Exactness) -> dict[str, Exactness]:
    """Returns the exactness of an engine that treats all kinds of requests alike."""
    return {"chat": level, "completions": level, "tools": level, "formats": level}


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment's figures for the heartbeat. `steps` only grows: work without growth means a hung engine."""

    running: int
    steps: int
    kv_use: float = 0.0  # 0 to 1
    prefix_hit_rate: float = 0.0  # of prompt tokens, 0 to 1


class LoadFailed(MillstreamError):
    """A worker cannot serve this model; it says why and ends."""

    code = "model_load_failed"


class TemplateRefused(BadRequest):
    """The chat template refuses these messages as they stand; the same said in other messages it might accept."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Tells what a chat template puts before its model's eyes by itself. Calls count with their results."""

    tools: bool
    calls: bool  # of the history, where no tools are offered
    calls_with_tools: bool
    systems: bool = True  # several system messages, and such as come later
    parallel: bool = True  # all calls of a message


class Tokenizer(Protocol):
    """The model's words: text to ids and back. `decode` of a prefix of a character gives U+FFFD at the end.

    `chat` raises `BadRequest`, and `TemplateRefused` for what the template refuses."""

    eos_ids: frozenset[int]

    @property
    def shown(self) -> Shown: ...

    def encode(self, text: str, *, special: bool = True) -> list[int]: ...
    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str: ...
    def token_bytes(self, token: int) -> bytes: ...
    def chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], *, go_on: bool, kwargs: dict[str, Any]
    ) -> list[int]: ...


class TokenEngine(Protocol):
    """Turns sequences into tokens. Every method but `load` and `close` is called on the event loop and returns at
    once; `load`, `prepare` and `close` block and are called in a thread."""

    kind: Literal["tokens"]
    guide_limits: GuideLimits

    @property
    def slots(self) -> int:
        """Returns how many sequences it takes at once now; 0 while it cannot compute."""
        ...

    @property
    def steps(self) -> bool:
        """Tells whether it steps by itself, so that one that makes no step with work to do counts as hung."""
        ...

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Load the model and return its card; `progress` is told each stage, on the calling thread. Raises
        `MillstreamError` with the cause and the remedy."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def start(self, sink: Sink, changed: Callable[[], None] = unheard) -> None:
        """Begin stepping; outputs go to `sink` on the running event loop. `changed` is called there whenever `slots`
        has changed."""
        ...

    def prepare(self, spec: SequenceSpec) -> None:
        """Check what `add` would check; called in a thread. Raises `MillstreamError` for what can be refused before
        anything is generated."""
        ...

    async def compile(self, guide: Guide, tenant: str) -> None:
        """Compile a guide, which `add` then finds compiled; cancel it when nobody waits for it any more. One tenant's
        guides are compiled one after the other. Raises `BadGrammar`."""
        ...

    def add(self, spec: SequenceSpec) -> None:
        """Take a sequence into the batch. Raises `MillstreamError` for what can be refused at once."""
        ...

    def abort(self, key: SequenceKey) -> None:
        """Forget a sequence within one step; unknown keys are fine. No output of it follows."""
        ...

    def stats(self) -> EngineStats: ...

    @property
    def broken(self) -> BaseException | None:
        """Returns why the engine can make no more tokens, or None while it can."""
        ...

    def close(self) -> None: ...


class UpstreamLost(EngineError):
    """The server that computes an answer is gone, or cannot be reached. The job is not at fault: it goes on at another
    one, or later. `attempts` is 1 where its work was lost, so that a request that kills all servers ends at last."""

    def __init__(self, message: str, *, attempts: int) -> None:
        super().__init__(message)
        self.attempts = attempts


@dataclass(frozen=True, slots=True)
class TextSpec:
    """One job as a text engine sees it. `earlier` is what earlier leases delivered: the engine goes on after it, or
    raises `Interrupted` for what it cannot go on with."""

    key: SequenceKey
    request: JobRequest
    earlier: Sequence[Chunk] = ()


class TextEngine(Protocol):
    """Answers requests as a whole, several at once. `load` and `close` block and are called in a thread, all else on
    the event loop."""

    kind: Literal["text"]

    @property
    def slots(self) -> int:
        """Returns how many requests it takes at once now; 0 while it cannot compute."""
        ...

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Does what `TokenEngine.load` does."""
        ...

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to serve; `changed` is called on the event loop whenever `slots` has changed."""
        ...

    def answer(self, spec: TextSpec) -> AsyncGenerator[Chunk]:
        """Yields the answer: first the chunk with `start` (unless earlier leases have told it), then what it says, at
        last the chunk with `finish`. Closed, it stops computing. Raises `MillstreamError` for what is refused,
        `UpstreamLost`, `Interrupted`."""
        ...

    async def compute(self, work: WorkInput) -> tuple[Result, int]:
        """Returns what was computed, and for how many tokens. Raises `BadRequest` where the engine cannot, and what
        `answer` does."""
        ...

    def stats(self) -> EngineStats: ...

    def close(self) -> None: ...


class ComputingEngine(Protocol):
    """Turns inputs into vectors and scores, generating nothing. All methods block and are called in a thread."""

    kind: Literal["vectors"]
    slots: int

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Loads as `TokenEngine.load` does; the capabilities tell which of the methods below the model has."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def embed(
        self, inputs: list[list[int]], *, dimensions: int | None = None, truncate: bool = False
    ) -> list[list[float]]:
        """Returns one vector per input of token ids. Raises `BadRequest` and `ContextLengthExceeded`."""
        ...

    def score(self, query: str, documents: list[str]) -> list[float]:
        """Returns how well each document answers the query, higher is better."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """Returns the names of the classes, if it classifies."""
        ...

    def classify(self, inputs: list[list[int]], *, truncate: bool = False) -> list[list[float]]:
        """Returns the probability of each class for each input of token ids. Raises as `embed` does."""
        ...

    def classify_tokens(self, texts: list[str], *, truncate: bool = False) -> list[list[TokenClass]]:
        """Returns the classes of each text's tokens, special ones left out. Raises as `embed` does."""
        ...

    def fill(self, texts: list[str], most: int) -> list[list[list[Filling]]]:
        """Returns the `most` likeliest tokens for each gap of each text. Raises `BadRequest` for a text without one."""
        ...

    def close(self) -> None: ...


Engine = TokenEngine | TextEngine | ComputingEngine
