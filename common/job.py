"""A job: one sequence to generate (or one embedding batch to compute), frozen when it is submitted.

The gateway writes a `JobRequest` into the job's hash as JSON; the worker that claims the job reads it back. Nothing in
it is the client's HTTP body: it is what the body asked for, after the gateway's checks, in terms a worker needs.
"""

from typing import Any, Literal, NewType

import msgspec

JobId = NewType("JobId", str)
ModelName = NewType("ModelName", str)
WorkerId = NewType("WorkerId", str)
GatewayId = NewType("GatewayId", str)
Lease = NewType("Lease", str)  # "<grant>:<worker>": one worker's time-limited right to run a job

Tier = Literal["priority", "default", "flex", "batch"]
TIERS: tuple[Tier, ...] = ("priority", "default", "flex", "batch")

Exactness = Literal["exact", "tokens", "text", "restart"]
"""The exactness of a continuation, when what computes a job dies. `exact`: the answer is the same as undisturbed.
`tokens`: no token is lost or repeated, what follows may differ from an undisturbed run. `text`: it goes on from its
text. `restart`: it goes on only if nothing was delivered yet, else it ends with an error."""
EXACTNESSES: tuple[Exactness, ...] = ("exact", "tokens", "text", "restart")

JobState = Literal["queued", "running", "finished", "failed", "cancelled", "expired"]
SETTLED: frozenset[JobState] = frozenset(("finished", "failed", "cancelled", "expired"))


# The fields of a sampling for which a model may come with defaults of its own.
MODEL_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rules by which tokens are chosen and generation ends. `seed` is always set (the gateway draws one if the
    client did not): noise is a function of (seed, position), so that any job can be continued exactly on another
    worker."""

    seed: int = 0
    max_tokens: int | None = None  # completion tokens; None: whatever room the context has left
    at_most: int | None = None  # where `max_tokens` is None: what the API key's limits allow an answer
    clamp: bool = False  # a `max_tokens` beyond the room that the context has left is cut to it, not refused
    min_tokens: int = 0
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] = {}  # token id (as JSON wants, a string) -> added to its logit
    allowed_token_ids: list[int] = []  # nothing else is chosen; empty: any token may be
    bad_words: list[str] = []  # never said, with or without a blank before them
    stop: list[str] = []
    stop_token_ids: list[int] = []
    include_stop: bool = False  # deliver the stop string itself as well
    ignore_eos: bool = False
    logprobs: int | None = None  # None: off; 0: the chosen token only; n: also the n most likely
    unset: list[str] = []  # of MODEL_DEFAULTS, those that the client left to the model


class ChatPrompt(msgspec.Struct, frozen=True, tag="chat", omit_defaults=True):
    """Messages for the model's chat template, in OpenAI's shape with content parts already joined to text."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    continue_final_message: bool = False  # the last message is the assistant's beginning: go on from it
    template_kwargs: dict[str, Any] = {}  # reasoning_effort, enable_thinking and the like


class TextPrompt(msgspec.Struct, frozen=True, tag="text", omit_defaults=True):
    """Plain text to go on from, tokenised by the worker."""

    text: str


class TokensPrompt(msgspec.Struct, frozen=True, tag="tokens", omit_defaults=True):
    """Token ids to go on from, as the client sent them."""

    ids: list[int]


class EmbedInput(msgspec.Struct, frozen=True, tag="embed", omit_defaults=True):
    """One embedding batch: texts or token ids, a vector each."""

    inputs: list[str | list[int]]
    dimensions: int | None = None
    truncate: bool = False


class RerankInput(msgspec.Struct, frozen=True, tag="rerank", omit_defaults=True):
    """Score each document against the query with a cross-encoder or by embedding similarity."""

    query: str
    documents: list[str]


class ClassifyInput(msgspec.Struct, frozen=True, tag="classify", omit_defaults=True):
    """Tell the class of each text or, with `each_token`, of each of its tokens."""

    inputs: list[str | list[int]]
    each_token: bool = False
    truncate: bool = False


class FillInput(msgspec.Struct, frozen=True, tag="fill", omit_defaults=True):
    """Fill the gaps of each text, which the model's mask token marks, each with the `most` likeliest tokens."""

    inputs: list[str]
    most: int = 5


class TokenizeInput(msgspec.Struct, frozen=True, tag="tokenize", omit_defaults=True):
    """Turn text or messages into token ids, or ids into text, without generating."""

    text: str | None = None
    messages: list[dict[str, Any]] | None = None
    ids: list[int] | None = None
    tools: list[dict[str, Any]] = []  # shown by the template beside the messages
    add_special_tokens: bool = True


class AudioInput(msgspec.Struct, frozen=True, tag="audio", omit_defaults=True):
    """A recording to write down: the file's bytes as the client sent them (base64 in JSON). `language` is the one that
    is spoken, empty: the model finds out; `prompt` is text that comes before each slice."""

    audio: bytes
    translate: bool = False  # into English
    language: str = ""
    prompt: str = ""
    most_seconds: float = 0.0  # of sound; 0: no bound


WorkInput = EmbedInput | RerankInput | ClassifyInput | FillInput | TokenizeInput  # nothing is generated
JobInput = ChatPrompt | TextPrompt | TokensPrompt | AudioInput | WorkInput


GuideKind = Literal["json_object", "json_schema", "regex", "choice", "grammar"]


class Guide(msgspec.Struct, frozen=True, omit_defaults=True):
    """A grammar the output must follow. `value` is a JSON schema (as JSON text) for `json_schema`, a pattern for
    `regex`, a JSON list of strings for `choice`, a Lark grammar for `grammar`, and empty for `json_object`. `param`:
    the request's parameter it came from, which errors name. `strict`: a schema is followed to the letter or refused;
    otherwise what the compiler does not know of it is left out."""

    kind: GuideKind
    value: str = ""
    param: str = "response_format"
    strict: bool = False


class ToolUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The wishes of the client on tools: `auto` parses calls if the model makes them, `required` forces at least one,
    `named` forces the function `name`. `none` never reaches a worker with tools."""

    choice: Literal["auto", "required", "named"] = "auto"
    name: str = ""
    parallel: bool = True


class JobRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything a worker needs to run the job; stored as JSON in the job's hash, readable with `redis-cli HGET`."""

    input: JobInput
    sampling: Sampling = Sampling()
    guide: Guide | None = None
    tool_use: ToolUse | None = None
    echo: bool = False  # completions: deliver the prompt's text first
    prompt_logprobs: int | None = None  # logprobs of the prompt's own tokens, with so many alternatives each
    prompt_ids: bool = False  # tell the prompt's token ids with the start
    repeats_prompt: bool = False  # another job of the request has the same prompt, and counts it
    watched: bool = True  # a client reads every token as it comes; else chunks leave in pieces of many tokens
    traceparent: str = ""  # the span of its request, as W3C's header; empty: nothing of it is traced
    cache_salt: str = ""  # cached prompt beginnings are shared by jobs of the same salt alone: a tenant's digest
