"""Makes engines out of the worker's settings, importing only what is asked for."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import Engine, LoadProgress, silent
from millstream.worker.service.offered_names import adapters, check_names, first_name, is_adapter_folder, on_demand
from millstream.worker.service.upstreams import SAMPLE, guide_limits, upstreams
from millstream.worker.service.vllm_models import adapted_vllm, check_flags, shared_vllm, vllm
from millstream.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from millstream.worker.engines.transformers.lora.beside import SharedTransformers
    from millstream.worker.engines.transformers.settings import EngineSettings


class MakesEngine(Protocol):
    """Makes an engine, which is not loaded yet. Files of the model that are not here are fetched; that is told to
    `progress`."""

    def __call__(self, *, progress: LoadProgress = silent) -> Engine: ...


MakesModel = Callable[..., Engine]  # of a model's source, the name it is to have, and `progress`
MakesName = Callable[..., Engine]  # of what shares a model, the adapter's name and source, and `progress`


@dataclass(frozen=True, slots=True)
class ModelOffer:
    """A model this worker can serve. `name`: what clients call it, None until its engine has loaded and says so;
    `expected`: what it will say. A resident one is loaded at the start, any other when somebody asks for it."""

    name: str | None
    make: MakesEngine
    resident: bool = True
    expected: str | None = None


def offers(settings: WorkerSettings) -> list[ModelOffer]:
    """Returns all models of this worker; nothing is loaded yet. Raises `BadRequest` for settings that cannot be
    read."""
    match settings.engine:
        case "simulated":
            return _simulated_offers(settings)
        case "openai":
            return [ModelOffer(first_name(settings), partial(upstreams, settings))]
        case _ if settings.upstream:
            return [ModelOffer(first_name(settings), partial(upstreams, settings))]
        case "vllm":
            return _vllm_offers(settings)
        case "transformers":
            return _transformers_offers(settings)
        case "auto":
            from millstream.worker.engines.vllm.available import vllm_on_gpu

            return _vllm_offers(settings) if vllm_on_gpu() else _transformers_offers(settings)


def follow(settings: WorkerSettings) -> int | None:
    """Blocks as one of torchrun's later ranks, which only step, until the first ends, and returns the exit status; None
    for a process that is a worker by itself."""
    from millstream.worker.engines.transformers.ranks.settings import RankSettings

    if not RankSettings().follows or settings.upstream or settings.engine not in ("auto", "transformers"):
        return None
    from millstream.worker.engines.vllm.available import vllm_on_gpu

    if settings.engine == "auto" and vllm_on_gpu():
        return None
    from millstream.worker.engines.transformers.ranks.follower import follow_torchrun

    return follow_torchrun()


def _simulated_offers(settings: WorkerSettings) -> list[ModelOffer]:
    first = first_name(settings) or ("simulated" if settings.model == SAMPLE else settings.model)
    later = [ModelOffer(name, partial(_simulated, settings, name), resident=False) for name, _ in on_demand(settings)]
    return [ModelOffer(first, partial(_simulated, settings, first)), *later]


def _simulated(settings: WorkerSettings, name: str, *, progress: LoadProgress = silent) -> Engine:
    from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings

    return SimulatedEngine(
        SimulatedSettings(
            name=name,
            slots=settings.slots or 8,
            first_token=settings.simulated_first_token,
            rate=settings.simulated_rate,
            step_tokens=settings.simulated_step_tokens,
            default_length=settings.simulated_length,
            context_length=settings.max_model_len or 131_072,
            guide_limits=guide_limits(settings),
        )
    )


def _transformers_offers(settings: WorkerSettings) -> list[ModelOffer]:
    chosen = _named_offers(settings, partial(_transformers, settings), partial(_adapted, settings), _shared)
    if settings.embedding_model:
        make = partial(_transformers, settings, settings.embedding_model, None, embedding=True)
        chosen.append(ModelOffer(None, make))
    return chosen


def _named_offers(
    settings: WorkerSettings, make: MakesModel, adapted: MakesName, shared: Callable[[WorkerSettings], Any]
) -> list[ModelOffer]:
    """Returns the model, its adapters and what is offered on demand. Whatever shares the model is made by `adapted`,
    anything else by `make`."""
    from millstream.worker.engines.model_files.source_names import name_of_source

    own, later = first_name(settings), on_demand(settings)
    beside = [pair for pair in later if is_adapter_folder(pair[1])]
    check_names([*settings.served_model_name, *(name for name, _ in adapters(settings) + later)])
    share = cache(partial(shared, settings))
    alone = not settings.adapter and not beside
    first = partial(make, settings.model, own) if alone else partial(adapted, share)
    chosen = [ModelOffer(own, first, expected=name_of_source(settings.model))]
    chosen += [ModelOffer(name, partial(adapted, share, name, path)) for name, path in adapters(settings)]
    return chosen + [
        ModelOffer(
            name,
            partial(adapted, share, name, source) if (name, source) in beside else partial(make, source, name),
            resident=False,
        )
        for name, source in later
    ]


def _shared(settings: WorkerSettings) -> "SharedTransformers":
    """Returns the model of this worker, for itself and its adapters to share. Raises `BadRequest` for one that no
    adapter can be beside."""
    from millstream.worker.engines.transformers.engine import TransformersEngine
    from millstream.worker.engines.transformers.loading.kinds import find_kind
    from millstream.worker.engines.transformers.lora.beside import SharedTransformers

    wanted = replace(_engine_settings(settings, settings.model, first_name(settings)), adapters=True)
    if (kind := find_kind(wanted.source)) != "causal":
        raise BadRequest(f"--adapter is for models that write on (causal); {settings.model!r} is {kind}.")
    return SharedTransformers(partial(TransformersEngine, wanted))


def _adapted(
    settings: WorkerSettings,
    share: "Callable[[], SharedTransformers]",
    name: str | None = None,
    path: str | None = None,
    *,
    progress: LoadProgress = silent,
) -> Engine:
    from millstream.worker.engines.model_files.adapters.engine import AdapterEngine
    from millstream.worker.engines.transformers.loading.load import locate

    locate(_engine_settings(settings, settings.model, None).source, progress)  # fetched here, where it is told
    return AdapterEngine(share(), guide_limits(settings), name, path)


def _engine_settings(settings: WorkerSettings, model: str, name: str | None) -> "EngineSettings":
    from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource

    return EngineSettings(
        source=ModelSource(
            model=model,
            revision=settings.revision if model == settings.model else None,
            source=settings.source,
            trust_remote_code=settings.trust_remote_code,
        ),
        served_name=name,
        guide_limits=guide_limits(settings),
        **{field: getattr(settings, field) for field in PASSED_ON},
    )


def _transformers(
    settings: WorkerSettings,
    model: str,
    name: str | None,
    *,
    embedding: bool = False,
    progress: LoadProgress = silent,
) -> Engine:
    from millstream.worker.engines.computing.engine import TransformersComputing
    from millstream.worker.engines.transformers.engine import TransformersEngine
    from millstream.worker.engines.transformers.loading.kinds import COMPUTING, find_kind, found

    wanted = found(_engine_settings(settings, model, name), progress)
    kind = find_kind(wanted.source)
    if embedding and kind == "causal":
        kind = "encoder"  # a decoder's last state is a vector as well
    if kind in COMPUTING:
        if not embedding:
            _check_whole(settings, model, kind)
        return TransformersComputing(wanted, kind)
    if kind == "speech":
        from millstream.worker.engines.speech.engine import SpeechEngine

        return SpeechEngine(wanted)
    return TransformersEngine(wanted, kind)


def _check_whole(settings: WorkerSettings, model: str, kind: str) -> None:
    """Raises `BadRequest` where a model that computes vectors, scores or classes is to be split or quantised."""
    for given, flag in (
        (settings.quantization, "--quantization"),
        (settings.tensor_parallel > 1, "--tensor-parallel"),
        (settings.device_map, "--device-map"),
        (settings.max_gpu_memory, "--max-gpu-memory"),
    ):
        if given:
            raise BadRequest(f"{flag} is for models that write on (causal); {model!r} is {kind}: leave it out.")


def _vllm_offers(settings: WorkerSettings) -> list[ModelOffer]:
    check_flags(settings)
    return _named_offers(settings, partial(vllm, settings), partial(adapted_vllm, settings), shared_vllm)


PASSED_ON = (
    "dtype",
    "device",
    "device_map",
    "tensor_parallel",
    "max_gpu_memory",
    "quantization",
    "chat_template",
    "generation_config",
    "max_model_len",
    "slots",
    "kv_tokens",
    "page_size",
    "step_tokens",
    "batching",
    "prefix_sharing",
    "threads",
)


def leave_at_once(status: int) -> NoReturn:
    """Ends the process although a thread of the engine's cannot be stopped."""
    os._exit(status)
