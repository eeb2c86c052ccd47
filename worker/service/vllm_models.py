"""Makes the models of `--engine vllm` out of the worker's settings."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import Engine, LoadProgress, silent
from millstream.worker.service.offered_names import adapters, first_name, is_adapter_folder, on_demand
from millstream.worker.service.upstreams import guide_limits
from millstream.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from millstream.worker.engines.vllm.lora.shared import SharedVllm
    from millstream.worker.engines.vllm.settings import VllmSettings


def check_flags(settings: WorkerSettings) -> None:
    """Raises `BadRequest` for a flag that vLLM has another word for, or none."""
    for given, flag in (
        (settings.embedding_model, "--embedding-model"),
        (settings.quantization, "--quantization"),
        (settings.tensor_parallel > 1, "--tensor-parallel"),
        (settings.device_map, "--device-map"),
        (settings.max_gpu_memory, "--max-gpu-memory"),
    ):
        if given:
            raise BadRequest(f"{flag} is for --engine transformers; vLLM's own flags go through --engine-args.")


def vllm(settings: WorkerSettings, model: str, name: str | None, *, progress: LoadProgress = silent) -> Engine:
    """Returns the engine of one model in vLLM, which is not loaded yet."""
    from millstream.worker.engines.vllm.engine import VllmEngine

    return VllmEngine(_settings(settings, model, name))


def shared_vllm(settings: WorkerSettings) -> "SharedVllm":
    """Returns the model of this worker in vLLM, for itself and its adapters to share."""
    from millstream.worker.engines.vllm.failures import check_installed

    check_installed()
    from millstream.worker.engines.model_files.adapters.folder import room_of
    from millstream.worker.engines.vllm.engine import VllmEngine
    from millstream.worker.engines.vllm.lora.shared import SharedVllm

    beside = _beside(settings)
    room = [room_of(source) for source in beside]
    wanted = replace(
        _settings(settings, settings.model, first_name(settings)),
        adapters=len(beside),
        adapter_rank=max((each.rank for each in room), default=0) or 16,
        adapter_layers=tuple(sorted(frozenset[str]().union(*(each.layers for each in room)))),
    )
    return SharedVllm(partial(VllmEngine, wanted))


def adapted_vllm(
    settings: WorkerSettings,
    share: "Callable[[], SharedVllm]",
    name: str | None = None,
    path: str | None = None,
    *,
    progress: LoadProgress = silent,
) -> Engine:
    """Returns the engine of one name that shares a model: an adapter, or, without `path`, the model itself."""
    from millstream.worker.engines.model_files.adapters.engine import AdapterEngine

    return AdapterEngine(share(), guide_limits(settings), name, path)


def _beside(settings: WorkerSettings) -> list[str]:
    """Returns the sources of all adapters that may come: vLLM makes room for them when it starts."""
    pairs = adapters(settings) + [pair for pair in on_demand(settings) if is_adapter_folder(pair[1])]
    return [source for _, source in pairs]


def _settings(settings: WorkerSettings, model: str, name: str | None) -> "VllmSettings":
    from millstream.worker.engines.vllm.settings import VllmSettings

    return VllmSettings(
        model=model,
        revision=settings.revision if model == settings.model else None,
        trust_remote_code=settings.trust_remote_code,
        served_name=name,
        dtype=settings.dtype,
        chat_template=settings.chat_template,
        generation_config=settings.generation_config,
        max_model_len=settings.max_model_len,
        slots=settings.slots,
        step_tokens=settings.step_tokens,
        prefix_sharing=settings.prefix_sharing,
        engine_args=tuple(settings.engine_args),
        guide_limits=guide_limits(settings),
    )
