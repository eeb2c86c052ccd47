"""Starts vLLM with a model, and reads of the model what the worker must know."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (vLLM is installed in few environments, and transformers publishes partly unknown types)

import json
import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from millstream.common.settings import hand_to_children
from millstream.worker.engines.base import LoadFailed, LoadProgress, ModelCard, always
from millstream.worker.engines.model_files.generation_defaults import end_ids, generation_defaults
from millstream.worker.engines.model_files.named_templates import with_template
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT, SAMPLE_CHAT_NAME, sample_chat_folder
from millstream.worker.engines.model_files.weights_digest import weights_of, words_of
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.vllm.arguments import engine_arguments
from millstream.worker.engines.vllm.failures import check_installed, explained
from millstream.worker.engines.vllm.figures import VllmFigures
from millstream.worker.engines.vllm.process import VllmProcess
from millstream.worker.engines.vllm.settings import VllmSettings
from millstream.worker.engines.vllm.tether import Tether

_HOSTED = "millstream.worker.engines.vllm.hosted"


@dataclass(frozen=True, slots=True)
class VllmModel:
    """A model that vLLM serves."""

    process: VllmProcess
    tokenizer: HuggingFaceTokenizer
    card: ModelCard
    slots: int
    vocabulary: int  # tokens that its logits have
    settings: VllmSettings
    config: Any  # vLLM's whole configuration

    @property
    def context_length(self) -> int:
        return self.card.context_length

    def card_with(self, adapter: str) -> ModelCard:
        """Returns the card of the model with an adapter, by its digest."""
        return _card(self.settings, self.card.name, self.config, self.tokenizer, adapter)


def load(settings: VllmSettings, progress: LoadProgress) -> VllmModel:
    """Starts vLLM and blocks meanwhile, for seconds to minutes. Raises `MillstreamError`."""
    path, name = located(settings, progress)
    progress("reading the configuration", None)
    tether = Tether(progress)
    with starting(settings, tether):
        config = _sampling(settings, configured(settings, path, tether))
        tokenizer = _tokenizer(settings, config.model_config)
        progress("starting vLLM", None)
        process = _started(config, tether)
    tether.log.loaded()
    card = _card(settings, settings.served_name or name, config, tokenizer)
    slots = int(config.scheduler_config.max_num_seqs)
    return VllmModel(process, tokenizer, card, slots, int(config.model_config.get_vocab_size()), settings, config)


@contextmanager
def starting(settings: VllmSettings, tether: Tether) -> Generator[None]:
    """Turns what vLLM and its processes say into one `LoadFailed`, and lets go of the tether's end."""
    check_installed()
    hand_to_children("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # a fork of this process could not be tied to it
    try:
        from vllm.config.logging import LoggingConfig

        _route_logs(LoggingConfig())
        yield
    except LoadFailed:
        raise
    except Exception as error:  # vLLM has many kinds, some of them bare
        tether.started()
        tether.told_all()
        raise explained(settings.model, error, tether.log.cause()) from error
    finally:
        tether.started()


def located(settings: VllmSettings, progress: LoadProgress) -> tuple[str, str]:
    """Returns the model's folder or hub id, and what it is called."""
    if settings.model in (SAMPLE_CHAT, SAMPLE_CHAT_NAME):
        return str(sample_chat_folder(settings.cache_dir, progress)), SAMPLE_CHAT_NAME
    path = Path(settings.model).expanduser()
    if path.exists():
        return str(path), path.resolve().name
    if settings.model.startswith((".", "/", "~")):
        raise LoadFailed(f"No model at {settings.model!r}: give a folder with config.json.")
    return settings.model, settings.model.rstrip("/").rsplit("/", 1)[-1]


def _route_logs(config: Any) -> None:
    """Has vLLM's warnings in this process go where our log goes. It sets its logging up as soon as it finds it other
    than its configuration says; that is done before."""
    from vllm.logger import configure_logging_if_needed

    configure_logging_if_needed(config)
    library = logging.getLogger("vllm")
    library.handlers.clear()
    library.propagate = True
    library.setLevel(logging.WARNING)


def configured(settings: VllmSettings, path: str, tether: Tether, more: Sequence[str] = ()) -> Any:
    """Returns vLLM's whole configuration, tied to this process. `more` are further flags of vLLM's."""
    from vllm.usage.usage_lib import UsageContext

    arguments = engine_arguments(settings, path, more)
    if not more:
        arguments.worker_extension_cls = f"{_HOSTED}.guides.GuideExtension"
    config = arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)  # the defaults of `vllm serve`
    _route_logs(config.logging_config)
    config.additional_config = tether
    return config


def _sampling(settings: VllmSettings, config: Any) -> Any:
    """Returns the configuration with our sampling in it."""
    if config.speculative_config is not None:
        raise LoadFailed("vLLM's speculative decoding leaves no room for exact sampling: start without it.")
    if config.model_config.runner_type != "generate":
        raise LoadFailed(f"{settings.model!r} generates no text: serve it with --engine transformers.", param="engine")
    runner = "second_runner:SecondRunner" if config.use_v2_model_runner else "first_runner:FirstRunner"
    config.model_config.logits_processors = [f"{_HOSTED}.{runner}Sampling"]
    return config


def _started(config: Any, tether: Tether) -> VllmProcess:
    from vllm.v1.engine.async_llm import AsyncLLM

    figures = VllmFigures()
    llm = AsyncLLM.from_vllm_config(config, stat_loggers=[figures.logger], disable_log_stats=True)
    return VllmProcess(llm, figures, tether)


def revision_of(model: Any) -> dict[str, str]:
    """Returns the tokenizer's revision, where one was asked for."""
    return {"revision": model.tokenizer_revision} if model.tokenizer_revision else {}


def _tokenizer(settings: VllmSettings, model: Any) -> HuggingFaceTokenizer:
    from transformers import AutoTokenizer

    inner = AutoTokenizer.from_pretrained(
        model.tokenizer, trust_remote_code=model.trust_remote_code, **revision_of(model)
    )
    own = model.try_get_generation_config().get("eos_token_id")
    told = own if own is not None else getattr(model.hf_text_config, "eos_token_id", None)
    rendered = with_template(inner, end_ids(told), settings.chat_template)
    _ = rendered.shown  # found out here, because it would hold the event loop up later
    return rendered


def _card(
    settings: VllmSettings, name: str, config: Any, tokenizer: HuggingFaceTokenizer, adapter: str = ""
) -> ModelCard:
    model = config.model_config
    dtype = str(model.dtype).removeprefix("torch.")
    defaults = generation_defaults(model.try_get_generation_config()) if settings.generation_config == "auto" else {}
    revision = getattr(model.hf_config, "_commit_hash", None) or "local"
    parts = (
        "vllm",
        weights_of(Path(model.model)) or f"{settings.model}|{revision}",
        dtype,
        str(model.quantization),
        *words_of(tokenizer),
        json.dumps(defaults, sort_keys=True),
        *((adapter,) if adapter else ()),
    )
    return ModelCard(
        name=name,
        engine="vllm",
        context_length=int(model.max_model_len),
        fingerprint="fp_" + sha256("\0".join(parts).encode()).hexdigest()[:12],
        defaults=defaults,
        exactness=always("exact" if dtype == "float32" else "tokens"),  # shorter types round by the batch's shape
        details={
            "dtype": dtype,
            "device": str(config.device_config.device_type),
            "revision": revision,
            "model": settings.model,
            "vllm": version("vllm"),
            "runner": "v2" if config.use_v2_model_runner else "v1",
        },
    )
