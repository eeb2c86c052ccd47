"""The records that upstreams write: lenient where servers differ, strict in what an answer is made of."""

from typing import Any

import msgspec

JsonObject = dict[str, Any]  # of what differs from server to server


class FunctionPart(msgspec.Struct):
    """A growing function call."""

    name: str | None = None
    arguments: str | None = None


class CallPart(msgspec.Struct):
    """A growing tool call. Some servers leave out the index, or repeat the id."""

    index: int | None = None
    id: str | None = None
    function: FunctionPart | None = None


class MessagePart(msgspec.Struct):
    """A delta of a stream, or the message of an answer that came as a whole."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # Ollama's and vLLM's newer name
    tool_calls: list[CallPart] | None = None


class LikelyToken(msgspec.Struct):
    """A token that could have been."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class ScoredToken(LikelyToken):
    """A token with its alternatives."""

    top_logprobs: list[LikelyToken] | None = None


class Scores(msgspec.Struct):
    """Log probabilities in the chat's shape (`content`) or the older one (parallel lists)."""

    content: list[ScoredToken] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None


class ChoicePart(msgspec.Struct):
    """A part of the one choice we ask for."""

    delta: MessagePart | None = None
    message: MessagePart | None = None
    text: str | None = None
    logprobs: Scores | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class CachedTokens(msgspec.Struct):
    """Details of the prompt."""

    cached_tokens: int | None = None


class ReasoningTokens(msgspec.Struct):
    """Details of the completion."""

    reasoning_tokens: int | None = None


class UsageReply(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: CachedTokens | None = None
    completion_tokens_details: ReasoningTokens | None = None


class UpstreamReply(msgspec.Struct):
    """One event of a stream, or a whole answer."""

    choices: list[ChoicePart] | None = None
    usage: UsageReply | None = None
    error: Any = None


REPLY = msgspec.json.Decoder(UpstreamReply)
