"""Examples of the answers of responses, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.shared.examples import MODEL

RESPONSE: dict[str, Any] = {
    "id": "resp_6920f5a1001a3f2c9d5c7be12f6a4410",
    "object": "response",
    "created_at": 1763767713,
    "completed_at": 1763767714,
    "status": "completed",
    "model": MODEL,
    "output": [
        {
            "id": "msg_6920f5a1001a3f2c9d5c7be12f6a441000",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "The water turns the wheel.", "annotations": []}],
        }
    ],
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "store": True,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 21,
    },
}
RESPONSE_STREAM = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_…","output_index":0,'
    '"content_index":0,"delta":"The","logprobs":[],"sequence_number":4}\n\n'
)
COMPACTION: dict[str, Any] = {
    "id": "resp_6920f5a1001a3f2c9d5c7be12f6a4410",
    "object": "response.compaction",
    "created_at": 1763767713,
    "output": [
        {
            "id": "msg_6920f5a1001a3f2c9d5c7be12f6a4410000",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "Why do mills need streams?"}],
        },
        {
            "id": "cmp_6920f5a1001a3f2c9d5c7be12f6a4410",
            "type": "compaction",
            "encrypted_content": "millstream:V2hhdCBtaWxscyBuZWVkIHdhcyBhc2tlZC4=",
        },
    ],
    "usage": RESPONSE["usage"],
}
INPUT_ITEM: dict[str, Any] = {
    "id": "msg_6920f5a1001a3f2c9d5c7be12f6a4410000",
    "type": "message",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "Why do mills need streams?"}],
}
