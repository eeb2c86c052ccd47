"""The reasons why vLLM did not load a model, each in a sentence that names the cause and the remedy."""

import re
from importlib.util import find_spec

from millstream.worker.engines.base import LoadFailed

INSTALL = "pip install 'millstream[vllm]'"
_OF_PYDANTIC = re.compile(r"(?:Value error|Assertion failed), (.*?)(?: \[type=|$)", re.DOTALL)
_SETTINGS = "--max-model-len, fewer --slots, or --engine-args gpu-memory-utilization=0.95"
_REMEDIES = {
    "gated repo|401 Client Error|access to model .* is restricted": (
        "accept the model's licence on its page, and set HF_TOKEN where the worker runs"
    ),
    "offline mode|cannot find the requested files|couldn't connect|cached snapshot|Repo id must be": (
        "check the id and the network, or give a local folder, or the bundled sample model `smollm2`"
    ),
    "out of memory|No available memory for the cache|larger than the (?:maximum|available)|less than desired GPU": (
        f"use a smaller model, {_SETTINGS}"
    ),
    "trust_remote_code": "if you trust its code, start the worker with --trust-remote-code",
    "safetensor|incomplete metadata|HeaderToo": "a file is damaged or was not downloaded to its end: fetch it again",
    "Failed to infer device type": "this build of vLLM finds no device: install the build for this machine",
}


def check_installed() -> None:
    """Raises `LoadFailed` with the command that installs vLLM, where it is not."""
    if find_spec("vllm") is None:
        raise LoadFailed(
            f"--engine vllm needs the package vllm: `{INSTALL}`, in an environment without the extra `worker`, whose "
            "transformers is another version."
        )


def explained(model: str, error: BaseException, cause: str) -> LoadFailed:
    """Returns what to raise: `cause` is what vLLM's own processes said, empty where they did not begin."""
    text = cause or str(error) or type(error).__name__
    if told := _OF_PYDANTIC.search(text):
        text = told[1]
    first = " ".join(text.split())[:500].partition(". ")[0].rstrip(".")
    remedy = next((words for pattern, words in _REMEDIES.items() if re.search(pattern, text, re.IGNORECASE)), "")
    return LoadFailed(f"vLLM cannot load {model!r}: {first}" + (f"; {remedy}." if remedy else "."))
