"""vLLM's own flags: what the worker's settings say of them, and what is passed through as it is."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
# (vLLM is installed in few environments)

from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.vllm.settings import VllmSettings

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for
_AT_ONCE = 8  # adapters in one batch, where nobody says another number: each takes room of the highest rank
_OURS = {
    "model": "--model",
    "served_model_name": "--served-model-name",
    "logits_processors": "nothing: the worker's own sampling is put there",
    "worker_extension_cls": "nothing: the worker's own methods are put there",
    "additional_config": "nothing: the worker ties vLLM's processes to itself with it",
}


def engine_arguments(settings: VllmSettings, path: str, more: Sequence[str] = ()) -> Any:
    """Returns vLLM's `AsyncEngineArgs`, read by its own parser from the flags that `vllm serve` has, `more` before
    those of the settings. `path` is the model's folder or hub id. Raises `LoadFailed` naming a flag that is none, or
    has no such value."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser(prog="--engine-args", add_help=False))
    words = [*more, *flags(settings, path)]
    said = StringIO()
    try:
        with redirect_stderr(said):
            told = parser.parse_args(words)
    except (SystemExit, ValueError) as error:  # argparse prints its reason and ends the process
        why = said.getvalue().strip().rpartition("error: ")[2] or str(error)
        raise LoadFailed(f"vLLM does not take these flags: {why}", param="engine_args") from error
    arguments = AsyncEngineArgs.from_cli_args(told)
    arguments.disable_log_stats = True  # its own lines and metrics; the figures are taken all the same
    arguments.skip_tokenizer_init = True  # it is given token ids and gives some
    return arguments


def flags(settings: VllmSettings, path: str) -> Iterator[str]:
    """Yields the flags of `vllm serve` that mean these settings. Raises `LoadFailed`."""
    yield f"--model={path}"
    yield f"--dtype={settings.dtype}"
    chosen = {
        "revision": settings.revision,
        "max-model-len": settings.max_model_len,
        "max-num-seqs": settings.slots,
        "max-num-batched-tokens": settings.step_tokens,
    }
    yield from (f"--{name}={value}" for name, value in chosen.items() if value is not None)
    if settings.trust_remote_code:
        yield "--trust-remote-code"
    if not settings.prefix_sharing:
        yield "--no-enable-prefix-caching"
    if settings.adapters:
        yield "--enable-lora"
        yield f"--max-loras={min(settings.adapters, _AT_ONCE)}"
        yield f"--max-cpu-loras={settings.adapters}"
        yield f"--max-lora-rank={next((rank for rank in _RANKS if rank >= settings.adapter_rank), _RANKS[-1])}"
        if settings.adapter_layers:
            yield from ("--lora-target-modules", *settings.adapter_layers)
    yield from _given(settings.engine_args)


def _given(arguments: tuple[str, ...]) -> Iterator[str]:
    """Flags as words of a command line. `enforce-eager`, `enforce_eager=true` and `--enforce-eager` are the same."""
    for each in arguments:
        name, given, value = each.strip().removeprefix("--").partition("=")
        key = name.replace("_", "-")
        if not key:
            raise LoadFailed(
                f"--engine-args {each!r} should be `key=value`, one of vLLM's own flags.", param="engine_args"
            )
        if other := _OURS.get(name.replace("-", "_")):
            raise LoadFailed(f"--engine-args {name} cannot be given: use {other}.", param="engine_args")
        if not given or value.lower() == "true":
            yield f"--{key}"
        elif value.lower() == "false":
            yield f"--no-{key}"
        else:
            yield f"--{key}={value}"
