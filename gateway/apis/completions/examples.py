"""Examples of the answers of completions, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.shared.examples import ID, MODEL, USAGE

COMPLETION: dict[str, Any] = {
    "id": ID.replace("chatcmpl", "cmpl"),
    "object": "text_completion",
    "created": 1763767713,
    "model": MODEL,
    "choices": [{"index": 0, "text": " there was a mill.", "logprobs": None, "finish_reason": "stop"}],
    "usage": USAGE,
    "system_fingerprint": "fp_5d33f1fbf8e3",
}
