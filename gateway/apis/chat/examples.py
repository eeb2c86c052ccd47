"""Examples of the answers of chat completions, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.shared.examples import ID, MODEL, USAGE

CHAT: dict[str, Any] = {
    "id": ID,
    "object": "chat.completion",
    "created": 1763767713,
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "The water turns the wheel.",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_5d33f1fbf8e3",
}
CHAT_STREAM = (
    f'id: {ID}:2\ndata: {{"id":"{ID}","object":"chat.completion.chunk","created":1763767713,"model":"{MODEL}",'
    '"service_tier":"default","system_fingerprint":"fp_5d33f1fbf8e3","choices":[{"index":0,"delta":{"content":"The"},'
    '"logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
STORED: dict[str, Any] = CHAT | {"metadata": {"project": "mill"}}
STORED_MESSAGE: dict[str, Any] = {"id": f"{ID}-0", "role": "user", "content": "Why do mills need streams?"}
