"""Examples of the answers about classes and gaps, for `/docs` and `/openapi.json`."""

from typing import Any

_HEAD: dict[str, Any] = {
    "id": "classify-6920f5a1001a3f2c9d5c7be12f6a4410",
    "object": "list",
    "created": 1763767713,
    "model": "small-classifier",
}
_USAGE: dict[str, Any] = {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": None}

CLASSIFIED: dict[str, Any] = _HEAD | {
    "data": [{"index": 0, "label": "positive", "probs": [0.08, 0.92], "num_classes": 2}],
    "usage": _USAGE,
}
TOKENS_CLASSIFIED: dict[str, Any] = _HEAD | {
    "data": [
        {
            "index": 0,
            "object": "token_classify",
            "tokens": [
                {"token": "Ada", "start": 0, "end": 3, "label": "PERSON", "score": 0.97, "probs": [0.03, 0.97]},
            ],
        }
    ],
    "labels": ["O", "PERSON"],
    "usage": _USAGE,
}
FILLED: dict[str, Any] = _HEAD | {
    "data": [
        {
            "index": 0,
            "object": "fill_mask",
            "gaps": [[{"token": " mill", "token_id": 2137, "score": 0.41}]],
        }
    ],
    "usage": _USAGE,
}
