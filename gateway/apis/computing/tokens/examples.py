"""Examples of the answers of tokenize, for `/docs` and `/openapi.json`."""

from typing import Any

TOKENS: dict[str, Any] = {"count": 2, "max_model_len": 8192, "tokens": [6403, 1980], "token_strs": None}
