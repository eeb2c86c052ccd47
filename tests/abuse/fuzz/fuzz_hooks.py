"""Hooks of Schemathesis: what it makes up gets as far as a real request would. Loaded by Schemathesis, in its own
environment; `MILLSTREAM_FUZZ_IDS` holds the values that are known, by the names of fields and path parameters."""

import json
import os
from typing import Any

import schemathesis

KNOWN: dict[str, str] = json.loads(os.environ.get("MILLSTREAM_FUZZ_IDS", "{}"))


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """A model that is there, and files and responses that are."""
    if isinstance(body, dict):
        body |= {name: known for name, known in KNOWN.items() if isinstance(body.get(name), str) and body[name]}
    return body


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """The objects that are there, unless they would be deleted for all that follows."""
    if path_parameters and context.operation.method.upper() != "DELETE":
        path_parameters |= {name: known for name, known in KNOWN.items() if name in path_parameters}
    return path_parameters
