"""Tool calls for the APIs that give their arguments as an object instead of JSON text."""

import json
from typing import Any, cast


def arguments_object(text: str) -> dict[str, Any]:
    """Returns the arguments of a call. A cut answer may end within the JSON; what cannot be read is given as it is."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {"_unfinished": text}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {"value": value}
