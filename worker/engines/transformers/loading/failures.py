"""The reasons why a model did not load, in words that name the cause and the remedy."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (torch publishes partly unknown types)

import re
from collections.abc import Generator
from contextlib import contextmanager

import torch

from millstream.common.errors import MillstreamError
from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.fetching.reasons import chain, of_the_file, of_the_source
from millstream.worker.engines.transformers.loading.device import free_memory

_PACKAGE = re.compile(r"pip install [^\s`'\"]+|requires the following packages[^:]*: ([\w, ]+)")

MODEL_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)  # what a model's own code may raise


@contextmanager
def explained(model: str, device: torch.device) -> Generator[None]:
    """Turn the libraries' many errors into one `LoadFailed`."""
    try:
        yield
    except MillstreamError:
        raise
    except Exception as error:  # each library has its own kinds, some of them bare
        raise LoadFailed(explain(error, model, device)) from error


def explain(error: BaseException, model: str, device: torch.device) -> str:
    """Returns one sentence of cause, one of remedy."""
    for cause in chain(error):
        if told := _of_memory(cause, model, device) or of_the_file(cause, model) or _of_the_code(cause, model):
            return told
    return of_the_source(error, model) or f"Cannot load {model!r}: {error}"


def _of_memory(error: BaseException, model: str, device: torch.device) -> str | None:
    text = str(error)
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text
    if not is_memory:
        return None
    needed = re.search(r"footprint (\d+)|allocate (\d+) bytes|tried to allocate ([\d.]+ [KMGT]iB)", text, re.IGNORECASE)
    amount = next((g for g in needed.groups() if g), "an unknown amount") if needed else "an unknown amount"
    told = _gib(int(amount)) if amount.isdigit() else amount
    return (
        f"Not enough memory for {model!r} on {device}: {told} needed, {_gib(free_memory(device))} free. "
        "Use a smaller model, --max-model-len or --kv-tokens, fewer --slots, or --quantization 4bit."
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _of_the_code(error: BaseException, model: str) -> str | None:
    text = str(error)
    if isinstance(error, ImportError):
        hint = _PACKAGE.search(text)
        return f"{model!r} needs a package that is not installed: {hint.group(0) if hint else text}"
    if "trust_remote_code" in text:
        return f"{model!r} brings its own code: if you trust it, start the worker with --trust-remote-code."
    if "does not recognize this architecture" in text or "Unrecognized configuration class" in text:
        return f"transformers does not know the architecture of {model!r}, or it generates no text: {text}"
    if "Unrecognized model" in text or "config.json" in text:
        return f"{model!r} is not a model folder: it has no usable config.json. {text}"
    return None
