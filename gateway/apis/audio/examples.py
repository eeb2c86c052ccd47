"""Examples of the answers about recordings, for `/docs` and `/openapi.json`."""

from typing import Any

HEARD: dict[str, Any] = {"text": "The stream turns the wheel.", "usage": {"type": "duration", "seconds": 3}}
HEARD_STREAM = (
    'data: {"type":"transcript.text.delta","delta":"The stream turns the wheel."}\n\n'
    'data: {"type":"transcript.text.done","text":"The stream turns the wheel.","usage":'
    '{"type":"duration","seconds":3}}\n\n'
)
