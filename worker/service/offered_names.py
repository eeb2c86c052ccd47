"""The names under which a worker serves models, as its flags tell them."""

from pathlib import Path

from millstream.common.errors import BadRequest
from millstream.worker.settings import WorkerSettings


def first_name(settings: WorkerSettings) -> str | None:
    """Returns what the model is called in listings; None: as the engine calls it."""
    return settings.served_model_name[0] if settings.served_model_name else None


def adapters(settings: WorkerSettings) -> list[tuple[str, str]]:
    """Returns the adapters: name, folder or id."""
    return _pairs("--adapter", settings.adapter)


def on_demand(settings: WorkerSettings) -> list[tuple[str, str]]:
    """Returns models that are loaded when somebody asks for them: name, and where it comes from."""
    return _pairs("--on-demand", settings.on_demand)


def _pairs(flag: str, given: list[str]) -> list[tuple[str, str]]:
    pairs = [(name.strip(), path.strip()) for name, _, path in (each.partition("=") for each in given)]
    for each, (name, path) in zip(given, pairs, strict=True):
        if not name or not path:
            raise BadRequest(f"{flag} {each!r} should be `name=path`: the name clients use, then folder, file or id.")
    return pairs


def is_adapter_folder(source: str) -> bool:
    """Tells whether a path is the folder of a LoRA adapter."""
    try:
        return (Path(source).expanduser() / "adapter_config.json").is_file()
    except (OSError, RuntimeError):  # it must not be read, or there is no home
        return False


def check_names(names: list[str]) -> None:
    """Raises `BadRequest` for a name that stands for two models."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadRequest(f"Two models are called {twice[0]!r}: give each --adapter and --on-demand a name of its own.")
