"""Examples of the answers of models and usage, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.shared.examples import MODEL

SERVED: dict[str, Any] = {
    "id": MODEL,
    "object": "model",
    "created": 1763767713,
    "owned_by": "millstream",
    "context_length": 8192,
    "max_model_len": 8192,
    "capabilities": ["chat", "completions"],
    "engine": "transformers",
    "generation_config": {"temperature": 0.7, "top_p": 0.8},
    "system_fingerprint": "fp_5d33f1fbf8e3",
    "exactness": {"chat": "exact", "completions": "exact", "tools": "exact", "formats": "exact"},
    "workers": 1,
    "waiting": 0,
}
USED: dict[str, Any] = {
    "object": "usage",
    "date": "2026-01-31",
    "model": MODEL,
    "tenant": "default",
    "jobs": 3,
    "prompt_tokens": 36,
    "completion_tokens": 27,
    "cached_tokens": 0,
    "total_tokens": 63,
}
