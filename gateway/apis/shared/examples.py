"""Examples of answers, for `/docs` and `/openapi.json`: of each one whole and streamed, and of an error."""

from typing import Any

MODEL = "smollm2-135m-instruct"
ID = "chatcmpl-6920f5a1001a3f2c9d5c7be12f6a4410"
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
ERROR = {
    "error": {
        "message": "Missing required parameter: 'messages'.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "missing_required_parameter",
    }
}
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
COMPLETION: dict[str, Any] = {
    "id": ID.replace("chatcmpl", "cmpl"),
    "object": "text_completion",
    "created": 1763767713,
    "model": MODEL,
    "choices": [{"index": 0, "text": " there was a mill.", "logprobs": None, "finish_reason": "stop"}],
    "usage": USAGE,
    "system_fingerprint": "fp_5d33f1fbf8e3",
}
RESPONSE: dict[str, Any] = {
    "id": "resp_6920f5a1001a3f2c9d5c7be12f6a4410",
    "object": "response",
    "created_at": 1763767713,
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
MESSAGE: dict[str, Any] = {
    "id": "msg_6920f5a1001a3f2c9d5c7be12f6a4410",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "The water turns the wheel."}],
    "model": MODEL,
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 9},
}
MESSAGE_STREAM = (
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    '"text":"The"}}\n\n'
)
EMBEDDINGS: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.013, -0.021]}],
    "model": "all-minilm-l6-v2",
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
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
STORED: dict[str, Any] = CHAT | {"metadata": {"project": "mill"}}
STORED_MESSAGE: dict[str, Any] = {"id": f"{ID}-0", "role": "user", "content": "Why do mills need streams?"}
INPUT_ITEM: dict[str, Any] = {
    "id": "msg_6920f5a1001a3f2c9d5c7be12f6a4410000",
    "type": "message",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "Why do mills need streams?"}],
}
SERVED: dict[str, Any] = {
    "id": MODEL,
    "object": "model",
    "created": 1763767713,
    "owned_by": "millstream",
    "context_length": 8192,
    "max_model_len": 8192,
    "capabilities": ["chat", "completions"],
    "engine": "transformers",
    "system_fingerprint": "fp_5d33f1fbf8e3",
    "workers": 1,
    "waiting": 0,
}
FILE: dict[str, Any] = {
    "id": "file-0123456789abcdef01234567",
    "bytes": 218,
    "created_at": 1763767713,
    "filename": "lines.jsonl",
    "purpose": "batch",
    "expires_at": 1766359713,
    "object": "file",
    "status": "processed",
}
BATCH: dict[str, Any] = {
    "id": "batch_0123456789abcdef01234567",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": FILE["id"],
    "completion_window": "24h",
    "status": "in_progress",
    "created_at": 1763767713,
    "request_counts": {"total": 2, "completed": 1, "failed": 0},
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
TOKENS: dict[str, Any] = {"count": 2, "max_model_len": 8192, "tokens": [6403, 1980], "token_strs": None}


FAILED: dict[str, Any] = {
    "description": "What is wrong, and with which parameter",
    "content": {"application/json": {"example": ERROR}},
}
FAILURES: dict[int | str, dict[str, Any]] = {"4XX": FAILED, "5XX": FAILED}  # of every route


def answers(example: dict[str, Any], stream: str | None = None, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Returns a route's `responses`: the whole answer, and the stream if there is one."""
    content: dict[str, Any] = {"application/json": {"example": example}}
    if stream is not None:
        content["text/event-stream"] = {"schema": {"type": "string"}, "example": stream}
    return {status: {"description": "The answer", "content": content}}


def listed(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a list."""
    ends = {"first_id": example["id"], "last_id": example["id"], "has_more": False}
    return answers({"object": "list", "data": [example], **ends})


def deleted(identity: str, kind: str) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a deletion."""
    return answers({"id": identity, "object": kind, "deleted": True})
