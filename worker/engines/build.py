"""From the worker's settings to its engines, importing only what is asked for."""

import os
from typing import NoReturn

from common.errors import BadRequest
from worker.engines.base import Engine
from worker.settings import WorkerSettings


def engines(settings: WorkerSettings) -> list[Engine]:
    """One engine per model to serve, not loaded yet."""
    match settings.engine:
        case "simulated":
            return [_simulated(settings)]
        case "transformers":
            return _transformers(settings)


def _simulated(settings: WorkerSettings) -> Engine:
    from worker.engines.simulated import SimulatedEngine, SimulatedSettings

    return SimulatedEngine(
        SimulatedSettings(
            name=first_name(settings) or ("simulated" if settings.model == "smollm2" else settings.model),
            slots=settings.slots or 8,
            first_token=settings.simulated_first_token,
            rate=settings.simulated_rate,
            step_tokens=settings.simulated_step_tokens,
            default_length=settings.simulated_length,
            context_length=settings.max_model_len or 131_072,
        )
    )


def _transformers(settings: WorkerSettings) -> list[Engine]:
    from worker.engines.computing import Computing
    from worker.engines.embedding import TransformersEmbedding
    from worker.engines.transformers.engine import TransformersEngine
    from worker.engines.transformers.settings import SAMPLE_EMBEDDING, EngineSettings, ModelSource

    def engine_settings(model: str, name: str | None, adapter: str | None = None) -> EngineSettings:
        return EngineSettings(
            source=ModelSource(
                model=model,
                revision=settings.revision if model == settings.model else None,
                source=settings.source,
                trust_remote_code=settings.trust_remote_code,
            ),
            served_name=name,
            adapter=adapter,
            **{field: getattr(settings, field) for field in PASSED_ON},
        )

    chosen: list[Engine] = []
    if settings.model == SAMPLE_EMBEDDING:
        chosen.append(Computing(TransformersEmbedding(engine_settings(settings.model, first_name(settings)))))
    else:
        chosen.append(TransformersEngine(engine_settings(settings.model, first_name(settings))))
    for name, path in adapters(settings):
        chosen.append(TransformersEngine(engine_settings(settings.model, name, path)))
    if settings.embedding_model:
        chosen.append(Computing(TransformersEmbedding(engine_settings(settings.embedding_model, None))))
    return chosen


PASSED_ON = (
    "dtype",
    "device",
    "device_map",
    "tensor_parallel",
    "max_gpu_memory",
    "quantization",
    "chat_template",
    "max_model_len",
    "slots",
    "kv_tokens",
    "page_size",
    "step_tokens",
    "prefix_sharing",
    "threads",
)


def first_name(settings: WorkerSettings) -> str | None:
    """What the model is called in listings; None: as the engine calls it."""
    return settings.served_model_name[0] if settings.served_model_name else None


def adapters(settings: WorkerSettings) -> list[tuple[str, str]]:
    """Adapters by name. Raises `BadRequest` for one that is not written `name=path`."""
    pairs = [(name.strip(), path.strip()) for name, _, path in (each.partition("=") for each in settings.adapter)]
    for each, (name, path) in zip(settings.adapter, pairs, strict=True):
        if not name or not path:
            raise BadRequest(f"--adapter {each!r} should be `name=path`: the name clients use, then folder or id.")
    return pairs


def leave_at_once(status: int) -> NoReturn:
    """End the process although a thread of the engine's cannot be stopped."""
    os._exit(status)
