"""Examples of the answers of embeddings, for `/docs` and `/openapi.json`."""

from typing import Any

EMBEDDINGS: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.013, -0.021]}],
    "model": "all-minilm-l6-v2",
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
