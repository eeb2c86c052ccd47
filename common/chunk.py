"""A chunk: what a worker writes for one job at one step: tokens, and what became readable through them.

Chunks of a job are numbered from 1 without holes (`seq`), across leases. Chunk 1 is always the `start` chunk, written
as soon as the prompt has been rendered and accepted; the last chunk carries `finish` or `error`, nothing generated. So
one chunk is at most one SSE event, and an event's id `<job>:<seq>` names an exact place in the stream.
"""

from typing import Literal, NewType

import msgspec

Seq = NewType("Seq", int)
NOTHING_YET = Seq(0)  # the place before chunk 1

FinishReason = Literal["stop", "length", "tool_calls", "function_call", "content_filter"]


class TopLogprob(msgspec.Struct, frozen=True, array_like=True):
    """One alternative at a position: its text, natural-log probability and token id; `bytes` only where the text cannot
    tell them, being a part of a character."""

    token: str
    logprob: float
    id: int
    bytes: list[int] = []


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """The chosen token at a position and the most likely alternatives. `logprob` is None only for a prompt's first."""

    token: str
    logprob: float | None
    id: int
    top: list[TopLogprob] = []
    bytes: list[int] = []  # UTF-8 of exactly this token, also when it is only a part of a character


class ToolDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call growing: `id` and `name` come once, first; then `arguments` in pieces to be joined."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Start(msgspec.Struct, frozen=True, omit_defaults=True):
    """The prompt was accepted: its length in tokens and who computes; with `echo`, its text and logprobs."""

    prompt_tokens: int
    fingerprint: str = ""
    echo: str = ""
    prompt_logprobs: list[TokenLogprob] = []
    prompt_ids: list[int] = []  # where they are asked for
    repeats: bool = False  # the prompt is counted with another job of the request
    exactness: str = ""  # how exact a continuation may be: `common.job.Exactness`


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts of one job: prompt, completion (with the end-of-sequence token), of the prompt those served from
    the prefix cache, of the completion those spent on reasoning."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


class ContextSizes(msgspec.Struct, frozen=True, array_like=True):
    """The numbers of tokens of a request that is too long: those the model has room for, those of the prompt, and those
    asked for in the completion (0: the prompt alone is too long)."""

    room: int
    prompt: int
    completion: int = 0


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cause of a job's failure: `code` is one of `common.errors`, `message` is for the client, `param` names its
    parameter; `sizes` are told of a request that is too long."""

    code: str
    message: str
    param: str | None = None
    sizes: ContextSizes | None = None


class TokenClass(msgspec.Struct, frozen=True, array_like=True):
    """One token of a text that was classified token by token: where it stands in the text, in characters (None where
    the tokenizer does not tell), and the probability of each class."""

    text: str
    start: int | None
    end: int | None
    probs: list[float]


class Filling(msgspec.Struct, frozen=True, array_like=True):
    """One token that may fill a gap: its text, id and probability."""

    text: str
    id: int
    prob: float


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of a job that generates nothing: vectors, scores of a rerank, classes, fillings, or ids and text.
    `probs` are those of each class for each input, `labels` the classes' names; `fillings` are told for each gap of
    each input, best first."""

    vectors: list[list[float]] = []
    scores: list[float] = []
    ids: list[int] = []
    text: str = ""
    pieces: list[str] = []
    labels: list[str] = []
    probs: list[list[float]] = []
    token_classes: list[list[TokenClass]] = []
    fillings: list[list[list[Filling]]] = []


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a recording's text, as its model cut it: from `start` to `end`, in seconds of the whole recording."""

    start: float
    end: float
    text: str
    ids: list[int] = []


class SpokenSlice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One slice of a recording, written down: where it began and where the next one begins, in hundredths of a second;
    `seconds` is the length of the whole recording. The other numbers are those of OpenAI's `verbose_json`, which are
    the same for all segments of a slice."""

    at: int
    next: int
    seconds: float
    language: str = ""  # what is spoken, a code; empty where the model knows one only
    segments: list[Segment] = []
    temperature: float = 0.0
    logprob: float = 0.0
    compression: float = 0.0
    no_speech: float = 0.0


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of the chunk log, field `c`, as JSON. `ids` are the tokens this chunk stands for; text may lag
    them (a split character, a possible stop string, a tool call's syntax) and is then in a later chunk."""

    ids: list[int] = []
    text: str = ""
    reasoning: str = ""
    tools: list[ToolDelta] = []
    logprobs: list[TokenLogprob] = []
    start: Start | None = None
    result: Result | None = None
    slice: SpokenSlice | None = None
    finish: FinishReason | None = None
    stopped_by: str = ""  # with finish: the client's stop string that ended the text, if one did
    usage: Usage | None = None
    ended: int = 0  # with finish or error: when that was, in seconds since the epoch; 0: not told
    error: Failure | None = None
    count: int = 0  # tokens it stands for where the engine does not tell their ids

    @property
    def tokens(self) -> int:
        """Returns how many tokens it stands for."""
        return len(self.ids) or self.count

    @property
    def last(self) -> bool:
        """Tells whether the job is settled with this chunk."""
        return self.finish is not None or self.error is not None


encode_chunk = msgspec.json.Encoder().encode  # any of these structs, as JSON bytes
decode_chunk = msgspec.json.Decoder(Chunk).decode
