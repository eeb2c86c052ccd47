"""The answers of jobs that generate nothing: vectors, scores, token ids."""

import base64
from array import array
from typing import Any

from millstream.common.chunk import Result
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.response_meta import ResponseMeta


def results(accumulators: list[Accumulator]) -> list[Result]:
    """Returns what each job computed."""
    return [accumulator.result or Result() for accumulator in accumulators]


def prompt_usage(accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns the tokens that went in; none came out."""
    tokens = sum(accumulator.usage.prompt for accumulator in accumulators)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def embeddings_body(head: ResponseMeta, accumulators: list[Accumulator], *, encoding: str) -> dict[str, Any]:
    """Returns OpenAI's list of embeddings, in the order of the inputs."""
    vectors = [vector for result in results(accumulators) for vector in result.vectors]
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector) if encoding == "base64" else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": head.model,
        "usage": prompt_usage(accumulators),
    }


def _encoded(vector: list[float]) -> str:
    """Returns the vector as little-endian float32 in base64, which OpenAI's SDKs read."""
    return base64.b64encode(array("f", vector).tobytes()).decode()


def rerank_body(
    head: ResponseMeta, accumulators: list[Accumulator], *, shown: list[str] | None, top: int | None
) -> dict[str, Any]:
    """Returns the results, best first; equal scores in the order of the documents. `shown`: the documents' texts, if
    they are wanted."""
    [result] = results(accumulators)
    ranked = sorted(enumerate(result.scores), key=lambda entry: (-entry[1], entry[0]))
    found: list[dict[str, Any]] = [{"index": index, "relevance_score": score} for index, score in ranked[:top]]
    if shown is not None:
        found = [entry | {"document": {"text": shown[entry["index"]]}} for entry in found]
    return {"id": head.id, "model": head.model, "results": found, "usage": prompt_usage(accumulators)}


def score_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns vLLM's list of scores, a pair each."""
    scores = [score for result in results(accumulators) for score in result.scores]
    return {
        "id": head.id,
        "object": "list",
        "created": head.created,
        "model": head.model,
        "data": [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)],
        "usage": prompt_usage(accumulators),
    }


def tokenize_body(
    head: ResponseMeta, accumulators: list[Accumulator], *, pieces: bool, context_length: int
) -> dict[str, Any]:
    """Returns vLLM's count and ids; `pieces`: each token's text as well."""
    [result] = results(accumulators)
    return {
        "count": len(result.ids),
        "max_model_len": context_length,
        "tokens": result.ids,
        "token_strs": result.pieces if pieces else None,
    }


def detokenize_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns the text of the tokens."""
    return {"prompt": results(accumulators)[0].text}
