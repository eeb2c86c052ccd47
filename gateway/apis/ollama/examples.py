"""Examples of the answers of Ollama's API, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.job import ModelName
from millstream.gateway.apis.ollama.models import process, shown, tag
from millstream.gateway.apis.shared.examples import MODEL

SERVED = ModelInfo(
    ModelName(MODEL), [], 0, "transformers", 8192, "fp_5d33f1fbf8e3", ("chat", "completions"), created=1763767713
)
ENDED: dict[str, Any] = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 912_000_000,
    "load_duration": 0,
    "prompt_eval_duration": 90_000_000,
    "eval_duration": 822_000_000,
    "prompt_eval_count": 12,
    "eval_count": 9,
}
OPENING: dict[str, Any] = {"model": MODEL, "created_at": "2025-11-21T23:28:33Z"}
CHAT: dict[str, Any] = OPENING | {"message": {"role": "assistant", "content": "The water turns the wheel."}} | ENDED
GENERATED: dict[str, Any] = OPENING | {"response": "The water turns the wheel."} | ENDED
CHAT_STREAM = (
    f'{{"model":"{MODEL}","created_at":"2025-11-21T23:28:33Z","message":{{"role":"assistant","content":"The"}},'
    '"done":false}\n'
)
GENERATE_STREAM = f'{{"model":"{MODEL}","created_at":"2025-11-21T23:28:33Z","response":"The","done":false}}\n'
EMBEDDED: dict[str, Any] = {
    "model": "all-minilm-l6-v2",
    "embeddings": [[0.013, -0.021]],
    "total_duration": 14_000_000,
    "load_duration": 0,
    "prompt_eval_count": 4,
}
TAGS: dict[str, Any] = {"models": [tag(SERVED)]}
RUNNING: dict[str, Any] = {"models": [process(SERVED)]}
SHOWN: dict[str, Any] = shown(SERVED)
