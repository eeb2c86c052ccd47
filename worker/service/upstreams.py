"""Makes the engine of a worker that computes nothing itself, out of the worker's settings."""

from dataclasses import fields

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import Engine, LoadProgress, silent
from millstream.worker.engines.guide_limits import GuideLimits
from millstream.worker.engines.openai.settings import UpstreamSettings
from millstream.worker.service.offered_names import first_name
from millstream.worker.settings import WorkerSettings

SAMPLE = "smollm2"  # the default of `model`, which stands for none where the engine has models of its own


def upstreams(settings: WorkerSettings, *, progress: LoadProgress = silent) -> Engine:
    """Returns the engine of a worker whose answers other servers compute. Raises `BadRequest`."""
    from millstream.worker.engines.openai.engine import OpenAIEngine

    if not settings.upstream:
        raise BadRequest("--engine openai needs --upstream URL: the address of an OpenAI server.")
    told = UpstreamSettings(
        urls=tuple(settings.upstream),
        key=_upstream_key(settings),
        model=None if settings.model == SAMPLE else settings.model,
        served_name=first_name(settings),
        slots=settings.slots,
        context_length=settings.max_model_len,
        authority=settings.upstream_ca,
        first=settings.upstream_wait,
        silence=settings.stall,
    )
    if settings.tokenizer is None:
        return OpenAIEngine(told)
    return _token_upstreams(settings, told)


def _token_upstreams(settings: WorkerSettings, told: UpstreamSettings) -> Engine:
    from millstream.worker.engines.openai.tokens.engine import TokenUpstreamSettings, UpstreamTokenEngine

    assert settings.tokenizer is not None
    return UpstreamTokenEngine(
        TokenUpstreamSettings(
            told,
            settings.tokenizer,
            chat_template=settings.chat_template,
            own_defaults=settings.generation_config == "auto",
            guide_limits=guide_limits(settings),
        )
    )


def _upstream_key(settings: WorkerSettings) -> str:
    """Raises `BadRequest` for a file that cannot be read."""
    if settings.upstream_key_file is None:
        return settings.upstream_key.get_secret_value() if settings.upstream_key else ""
    try:
        return settings.upstream_key_file.read_text().strip()
    except OSError as error:
        raise BadRequest(f"--upstream-key-file {str(settings.upstream_key_file)!r} cannot be read: {error}") from error


def guide_limits(settings: WorkerSettings) -> GuideLimits:
    """Returns the limits of grammars and schemas."""
    return GuideLimits(**{field.name: getattr(settings, f"guide_{field.name}") for field in fields(GuideLimits)})
