"""The name of a model in listings, unless it is told otherwise: found out from its source, before it is loaded."""

from pathlib import Path

from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT, SAMPLE_CHAT_NAME


def name_of_source(source: str) -> str:
    """Returns the name of a sample, a folder, a GGUF file or a hub id."""
    if source in (SAMPLE_CHAT, SAMPLE_CHAT_NAME):
        return SAMPLE_CHAT_NAME
    try:
        path = Path(source).expanduser()
        if path.suffix == ".gguf":
            return path.stem
        if path.is_dir():
            return path.resolve().name
    except (OSError, RuntimeError):
        pass  # it cannot be looked at: loading it says why
    return source.rstrip("/").rsplit("/", 1)[-1]
