"""The answers about classes and gaps."""

from typing import Any

from millstream.common.chunk import Result, TokenClass
from millstream.gateway.apis.shared.write.results import prompt_usage, results
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.response_meta import ResponseMeta


def classify_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns vLLM's list of classes, in the order of the inputs."""
    labels, told = _labels(accumulators), [probs for result in results(accumulators) for probs in result.probs]
    data = [
        {"index": index, "label": labels[_best(probs)], "probs": probs, "num_classes": len(probs)}
        for index, probs in enumerate(told)
    ]
    return _listed(head, accumulators, data)


def token_classify_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns each input's tokens with their likeliest class, and all classes' names in the order of `probs`."""
    labels = _labels(accumulators)
    texts = [tokens for result in results(accumulators) for tokens in result.token_classes]
    data = [
        {"index": index, "object": "token_classify", "tokens": [_token(each, labels) for each in tokens]}
        for index, tokens in enumerate(texts)
    ]
    return _listed(head, accumulators, data) | {"labels": labels}


def fill_mask_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns each input's gaps, each with its likeliest tokens, best first."""
    texts = [gaps for result in results(accumulators) for gaps in result.fillings]
    data = [
        {
            "index": index,
            "object": "fill_mask",
            "gaps": [[{"token": each.text, "token_id": each.id, "score": each.prob} for each in gap] for gap in gaps],
        }
        for index, gaps in enumerate(texts)
    ]
    return _listed(head, accumulators, data)


def _labels(accumulators: list[Accumulator]) -> list[str]:
    first: Result = results(accumulators)[0]
    return first.labels


def _best(probs: list[float]) -> int:
    return max(range(len(probs)), key=probs.__getitem__)


def _token(told: TokenClass, labels: list[str]) -> dict[str, Any]:
    best = _best(told.probs)
    return {
        "token": told.text,
        "start": told.start,
        "end": told.end,
        "label": labels[best],
        "score": told.probs[best],
        "probs": told.probs,
    }


def _listed(head: ResponseMeta, accumulators: list[Accumulator], data: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": "list",
        "created": head.created,
        "model": head.model,
        "data": data,
        "usage": prompt_usage(accumulators) | {"completion_tokens": 0, "prompt_tokens_details": None},
    }
