"""Makes a model in memory, with its tokenizer, out of a name. Fails early, naming the cause and the remedy."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jinja2 import TemplateSyntaxError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils.logging import disable_progress_bar

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import LoadFailed, LoadProgress
from millstream.worker.engines.model_files.fetching.in_use import FolderMark
from millstream.worker.engines.model_files.fetching.pull import pull
from millstream.worker.engines.model_files.fetching.wanted import read_name
from millstream.worker.engines.model_files.generation_defaults import end_ids
from millstream.worker.engines.model_files.named_templates import with_template
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT, SAMPLE_CHAT_NAME, sample_chat_folder
from millstream.worker.engines.model_files.source_names import name_of_source
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.transformers.loading.attention import CPU_ATTENTION, fused, usable
from millstream.worker.engines.transformers.loading.device import pick_device, pick_dtype
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS, explained
from millstream.worker.engines.transformers.loading.gpu_attention import GPU_ATTENTION, fits
from millstream.worker.engines.transformers.loading.lean_layers import make_lean
from millstream.worker.engines.transformers.loading.packing import pack_linears
from millstream.worker.engines.transformers.loading.placement import check_placement, placement, quantized, spread
from millstream.worker.engines.transformers.loading.quantization.checkpoints import prepared
from millstream.worker.engines.transformers.loading.quantization.narrow_layers import (
    NarrowWeights,
    narrow_linears,
    narrowed,
)
from millstream.worker.engines.transformers.loading.support import NotBatched, why_not_batched
from millstream.worker.engines.transformers.loading.trained import trained
from millstream.worker.engines.transformers.ranks.leader import Ranks
from millstream.worker.engines.transformers.ranks.messages import Share
from millstream.worker.engines.transformers.ranks.settings import RankSettings
from millstream.worker.engines.transformers.ranks.shard import read_shard
from millstream.worker.engines.transformers.ranks.split import check_wishes, kv_heads_of_each, ranks_of
from millstream.worker.engines.transformers.settings import EngineSettings, ModelFiles, ModelSource

_LENGTHS = ("max_position_embeddings", "seq_length", "max_seq_len", "model_max_length")  # ChatGLM's, MPT's, Baichuan's
_UNTOLD = 4096  # tokens, where a configuration tells no length


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run."""

    name: str
    model: PreTrainedModel
    tokenizer: HuggingFaceTokenizer
    context_length: int
    revision: str  # the hub's commit, another source's mark, or "local"
    path: str  # folder or file
    encodes: bool = False  # an encoder reads the prompt, and a decoder writes
    unbatched: str | None = None  # why its sequences are not run together
    ranks: Ranks | None = None  # the other processes that have a part of it
    hold: FolderMark | None = None  # while it lives, its files are not removed

    @property
    def attention(self) -> str:
        """The attention implementation's name, as transformers knows it."""
        return self.model.config._attn_implementation or "eager"  # pyright: ignore[reportPrivateUsage]

    @property
    def vocabulary(self) -> int:
        """Returns how many tokens the model's logits have; they may be more than its tokenizer knows."""
        text = self.model.config.get_text_config()
        return getattr(text, "vocab_size", None) or text.padded_vocab_size  # as ChatGLM calls it


def locate(source: ModelSource, progress: LoadProgress) -> ModelFiles:
    """Find the model, fetching it where it is not here; the bundled sample is made ready on first use."""
    if source.place is not None:
        return source.place
    name = name_of_source(source.model)
    if source.model in (SAMPLE_CHAT, SAMPLE_CHAT_NAME):
        return ModelFiles(str(sample_chat_folder(source.cache_dir, progress)), name)
    path = Path(source.model).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return ModelFiles(str(path.parent), name, path.name)
    if path.is_dir():
        return ModelFiles(str(path), name)
    if source.model.startswith((".", "/", "~")) or (path.suffix == ".gguf" and source.model.count("/") < 2):
        raise LoadFailed(f"No model at {source.model!r}: give a folder with config.json, or a .gguf file.")
    wanted = read_name(source.model, source.revision, source.source)
    pulled = pull(wanted, source.cache_dir, progress)
    return ModelFiles(str(pulled.folder), wanted.called, pulled.gguf, pulled.revision, pulled.hold)


def _quieten_library() -> None:
    """Quietens the library: its progress bars are told by `progress`, and its batching, which logs past `logging`'s
    root, is brought back there."""
    disable_progress_bar()
    batching = logging.getLogger("ContinuousBatchingLogger")
    batching.handlers.clear()
    batching.propagate = True
    batching.setLevel(logging.WARNING)


def load(settings: EngineSettings, progress: LoadProgress, *, encodes: bool = False, hears: bool = False) -> Loaded:
    """Loads the model and blocks meanwhile, for seconds to minutes. `encodes`: it is an encoder with a decoder, which
    reads sound if it `hears`. Raises `MillstreamError`."""
    device = pick_device(settings.device)
    check_placement(settings, device)
    if (size := ranks_of(settings, RankSettings())) > 1:
        check_wishes(settings, size, device, encodes=encodes)
    _quieten_library()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    place = locate(settings.source, progress)
    with explained(settings.source.model, device):
        progress("reading the configuration", None)
        config = _config(place, settings.source)
        quantised = prepared(config, settings.quantization, device, place.gguf) if size == 1 else {}
        context = _context_length(config, settings.max_model_len)
        progress("loading the tokenizer", None)
        tokenizer = AutoTokenizer.from_pretrained(place.path, **origin_of(place, settings.source))
        sketch = None if encodes else _sketch(config, settings)
        unbatched = _unbatched(sketch, settings, encodes=encodes)
        kv_heads = kv_heads_of_each(sketch, unbatched, size) if size > 1 else 0
        progress("loading the weights", None)
        dtype = pick_dtype(settings.dtype, device, sketch.num_parameters() if sketch is not None else 0)
        ranks = None
        if size > 1:
            origin, threads = origin_of(place, settings.source), settings.threads
            ranks, model = _split(Share(place.path, origin, dtype, device.type, size, kv_heads, threads))
        else:
            model = _model(_head(encodes=encodes, hears=hears), place, settings, device, dtype, quantised)
        unbatched = unbatched or spread(model)
        if unbatched is None:
            _attend_by_pages(model, device)
        if device.type == "cpu" and ranks is None:
            _fit_to_processor(model, settings, narrowed(settings.quantization, device), batched=unbatched is None)
    rendered = with_template(tokenizer, _eos_ids(model), settings.chat_template)
    if settings.chat_template:
        _check_template(rendered, settings.chat_template)
    _ = rendered.shown  # found out here, because it would hold the event loop up later
    name = settings.served_name or place.name
    return Loaded(name, model, rendered, context, place.revision, place.file, encodes, unbatched, ranks, place.hold)


def _head(*, encodes: bool, hears: bool) -> Any:
    if hears:
        return AutoModelForSpeechSeq2Seq
    return AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM


def _unbatched(sketch: PreTrainedModel | None, settings: EngineSettings, *, encodes: bool) -> str | None:
    """Returns why the model's sequences are not run together. Raises `NotBatched` where they have to be."""
    if settings.batching == "off":
        return "--batching is off"
    architecture = type(sketch).__name__ if sketch is not None else "this model"
    own = "reads its prompt with an encoder" if encodes else "brings code of its own"
    why = own if sketch is None else why_not_batched(sketch)
    if why is not None and settings.batching == "on":
        raise NotBatched(architecture, why)
    return why


def _check_template(rendered: HuggingFaceTokenizer, file: Path) -> None:
    """Checks that the template can be read. It may refuse this conversation, but it must be a template."""
    try:
        rendered.chat([{"role": "user", "content": "hello"}], [], go_on=False, kwargs={})
    except BadRequest as error:
        if isinstance(why := error.__cause__, TemplateSyntaxError):
            message = f"{str(file)!r} is no chat template: {why.message} (line {why.lineno})."
            raise LoadFailed(message, param="chat_template") from error


def origin_of(place: ModelFiles, source: ModelSource) -> dict[str, Any]:
    """Returns the options that every `from_pretrained` of this model takes."""
    origin: dict[str, Any] = {"trust_remote_code": source.trust_remote_code}
    if place.gguf:
        origin["gguf_file"] = place.gguf
    return origin


def _config(place: ModelFiles, source: ModelSource) -> PretrainedConfig:
    return AutoConfig.from_pretrained(place.path, **origin_of(place, source))


def _context_length(config: PretrainedConfig, wanted: int | None) -> int:
    text = config.get_text_config()
    own = next((length for name in _LENGTHS if isinstance(length := getattr(text, name, None), int)), _UNTOLD)
    if wanted is not None and wanted > own:
        raise LoadFailed(
            f"--max-model-len {wanted} is more than the model's own context length {own}.", param="max_model_len"
        )
    return wanted or own


def _sketch(config: PretrainedConfig, settings: EngineSettings) -> PreTrainedModel | None:
    """Returns the model without weights; None for code of the model's own that cannot be made without."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=settings.source.trust_remote_code)
    except MODEL_ERRORS:
        if settings.source.trust_remote_code and getattr(config, "auto_map", None):
            return None
        raise


def _model(
    kind: Any,
    place: ModelFiles,
    settings: EngineSettings,
    device: torch.device,
    dtype: torch.dtype | None,
    quantised: dict[str, Any],
) -> PreTrainedModel:
    options = origin_of(place, settings.source) | placement(settings, device) | quantised
    options["dtype"] = dtype or "auto"
    if settings.quantization and narrowed(settings.quantization, device) is None:
        options["quantization_config"] = quantized(settings.quantization)
    model = trained(kind, place.path, **options)
    if "device_map" not in options:
        model = cast(Any, model).to(device)
    return model.eval()


def _split(share: Share) -> tuple[Ranks, PreTrainedModel]:
    """Starts the other ranks, and returns them with this one's part of the model."""
    ranks = Ranks(share)
    try:
        model = read_shard(share)
    except Exception as error:
        ranks.close()
        if ranks.lost is not None:
            raise ranks.lost from error
        raise
    ranks.lead(model)
    return ranks, model


def _attend_by_pages(model: PreTrainedModel, device: torch.device) -> None:
    """Gives the model the attention of the batch."""
    if device.type != "cpu":
        if fits(model):
            model.set_attn_implementation(GPU_ATTENTION)
    elif not fused(model.dtype):
        model.set_attn_implementation("eager")
    elif usable(model.config):
        model.set_attn_implementation(CPU_ATTENTION)


def _fit_to_processor(
    model: PreTrainedModel, settings: EngineSettings, narrow: NarrowWeights | None, *, batched: bool
) -> None:
    """Gives a model that runs on the CPU as a whole the weights that it is to have and, if it is `batched`, layers made
    for that."""
    if batched:
        make_lean(model, adapters=settings.adapters)
    if narrow is not None:
        narrow_linears(model, narrow)
    if batched:
        pack_linears(model)


def _eos_ids(model: PreTrainedModel) -> frozenset[int]:
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ids is None:
        ids = getattr(model.config.get_text_config(), "eos_token_id", None)
    return end_ids(ids)
