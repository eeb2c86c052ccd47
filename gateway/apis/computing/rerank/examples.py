"""Examples of the answers of rerank and score, for `/docs` and `/openapi.json`."""

from typing import Any

RERANKED: dict[str, Any] = {
    "id": "rerank-6920f5a1001a3f2c9d5c7be12f6a4410",
    "model": "all-minilm-l6-v2",
    "results": [{"index": 0, "relevance_score": 0.81}],
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}
SCORES: dict[str, Any] = {
    "id": "rerank-6920f5a1001a3f2c9d5c7be12f6a4410",
    "object": "list",
    "created": 1763767713,
    "model": "all-minilm-l6-v2",
    "data": [{"index": 0, "object": "score", "score": 0.81}],
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}
