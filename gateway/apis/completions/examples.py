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
COMPLETION_STREAM = (
    f'id: {COMPLETION["id"]}:2\ndata: {{"id":"{COMPLETION["id"]}","object":"text_completion","created":1763767713,'
    f'"model":"{MODEL}","system_fingerprint":"fp_5d33f1fbf8e3","choices":[{{"index":0,"text":" there",'
    '"logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
