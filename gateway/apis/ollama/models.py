"""The answers to what Ollama's clients ask about models: which there are, which run, and what one of them can do."""

import hashlib
from typing import Any

from millstream.common.broker.models.directory import ModelInfo
from millstream.gateway.apis.ollama.write import timestamp

CAPABILITIES = {  # ours to Ollama's
    "chat": ("completion", "tools"),
    "completions": ("completion",),
    "embeddings": ("embedding",),
}


def tag(info: ModelInfo) -> dict[str, Any]:
    """Returns one model of `/api/tags`. The size of its weights is not known here."""
    return {
        "name": info.name,
        "model": info.name,
        "modified_at": timestamp(info.created),
        "size": 0,
        "digest": hashlib.sha256(f"{info.name} {info.fingerprint}".encode()).hexdigest(),
        "details": details(info),
    }


def process(info: ModelInfo) -> dict[str, Any]:
    """Returns one model of `/api/ps`. It has no `expires_at`: it is not unloaded by a clock."""
    known = tag(info)
    del known["modified_at"]
    return known | {"size_vram": 0, "context_length": info.context_length}


def shown(info: ModelInfo) -> dict[str, Any]:
    """Returns the answer of `/api/show`."""
    told = [each for name in info.capabilities for each in CAPABILITIES.get(name, ())]
    family = info.engine or "unknown"
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(info),
        "model_info": {
            "general.architecture": family,
            "general.basename": info.name,
            f"{family}.context_length": info.context_length,
        },
        "capabilities": list(dict.fromkeys(told)),
        "modified_at": timestamp(info.created),
    }


def details(info: ModelInfo) -> dict[str, Any]:
    """Returns what is known of the model's kind: the engine that serves it."""
    return {
        "parent_model": "",
        "format": "",
        "family": info.engine,
        "families": [info.engine] if info.engine else [],
        "parameter_size": "",
        "quantization_level": "",
    }
