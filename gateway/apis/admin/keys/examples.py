"""Examples of API keys, for `/docs` and `/openapi.json`."""

from typing import Any

LIMITS = {
    "requests_per_minute": 60,
    "tokens_per_minute": 0,
    "concurrent": 0,
    "tokens_per_day": 1000000,
    "tokens_per_month": 0,
}
API_KEY: dict[str, Any] = {
    "id": "key_c0d7d7ca8c2a",
    "object": "api_key",
    "tenant": "acme",
    "ending": "kUto",
    "weight": 2.0,
    "ceiling": "priority",
    "models": [],
    "limits": LIMITS,
    "created": 1763767713,
}
NEW_KEY: dict[str, Any] = API_KEY | {"key": "sk-ms-…kUto"}
