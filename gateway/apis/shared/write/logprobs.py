"""Log probabilities in OpenAI's two shapes."""

from millstream.common.chunk import TokenLogprob

LEAST = -9999.0  # OpenAI's value for "very unlikely"; JSON has no infinity


def chat_logprobs(tokens: list[TokenLogprob]) -> dict[str, object]:
    """Returns `{"content": [...], "refusal": null}`."""
    return {"content": [chat_token(token) for token in tokens], "refusal": None}


def chat_token(token: TokenLogprob) -> dict[str, object]:
    """Returns one token with its alternatives."""
    return {
        "token": token.token,
        "logprob": finite(token.logprob),
        "bytes": token.bytes or list(token.token.encode()),
        "top_logprobs": [
            {"token": top.token, "logprob": finite(top.logprob), "bytes": top.bytes or list(top.token.encode())}
            for top in token.top
        ],
    }


def completion_logprobs(tokens: list[TokenLogprob], offset: int) -> dict[str, object]:
    """Returns the older shape: parallel lists; `offset` is the first token's place in the choice's text, in characters.
    A prompt's first token has no probability: null."""
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [None if token.logprob is None else finite(token.logprob) for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": offsets,
    }


def _top(token: TokenLogprob) -> dict[str, float] | None:
    """Returns the most likely tokens and the chosen one, which may not be among them."""
    if token.logprob is None:
        return None
    return {top.token: finite(top.logprob) for top in token.top} | {token.token: finite(token.logprob)}


def finite(logprob: float | None) -> float:
    """Returns a number that JSON can carry."""
    return LEAST if logprob is None or logprob < LEAST else logprob
