"""Examples of the answers of Anthropic's messages, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.shared.examples import MODEL

MESSAGE: dict[str, Any] = {
    "id": "msg_6920f5a1001a3f2c9d5c7be12f6a4410",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "The water turns the wheel."}],
    "model": MODEL,
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
    "usage": {
        "input_tokens": 12,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 0},
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "server_tool_use": None,
        "inference_geo": None,
        "service_tier": "standard",
    },
}
MESSAGE_STREAM = (
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    '"text":"The"}}\n\n'
)
