"""Token ids, the prompt's log probabilities, the usage so far: told beside OpenAI's fields where they are asked for.
The shapes are vLLM's."""

from typing import Any

from millstream.common.chunk import Chunk, Start, TokenLogprob, Usage
from millstream.gateway.apis.shared.write.logprobs import finite
from millstream.gateway.requests.usage import usage_object


class RunningUsage:
    """The usage of a stream as it grows, over all its choices."""

    def __init__(self) -> None:
        self._prompt = 0
        self._made = 0

    def add(self, chunk: Chunk) -> dict[str, Any]:
        """Returns the usage with this chunk."""
        if chunk.start is not None and not chunk.start.repeats:
            self._prompt += chunk.start.prompt_tokens
        self._made += len(chunk.ids)
        return usage_object(Usage(self._prompt, self._made))


def prompt_logprobs(tokens: list[TokenLogprob]) -> list[dict[str, dict[str, object]] | None]:
    """Returns, for each of the prompt's tokens, what could have stood there by its id; null for the first."""
    return [None if token.logprob is None else _candidates(token) for token in tokens]


def _candidates(token: TokenLogprob) -> dict[str, dict[str, object]]:
    ranked = {top.id: rank for rank, top in enumerate(token.top, 1)}
    found = {str(top.id): _candidate(top.logprob, ranked[top.id], top.token) for top in token.top}
    return found | {str(token.id): _candidate(token.logprob, ranked.get(token.id), token.token)}


def _candidate(logprob: float | None, rank: int | None, text: str) -> dict[str, object]:
    """`rank` is null for a token that is not among the likeliest: how far down it is, nobody has counted."""
    return {"logprob": finite(logprob), "rank": rank, "decoded_token": text}


def about_prompt(start: Start, *, ids: bool, logprobs: bool) -> dict[str, Any]:
    """Returns what was asked to be told of the prompt."""
    told: dict[str, Any] = {"prompt_token_ids": start.prompt_ids} if ids else {}
    return told | ({"prompt_logprobs": prompt_logprobs(start.prompt_logprobs)} if logprobs else {})
