"""Vectors, scores, classes and filled gaps: one forward pass per batch of inputs, nothing generated.

Pooling, projection and normalisation are what the model's own sentence-transformers files say; a model without them is
pooled by mean (encoders) or last token (decoders) and normalised.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch publish partly unknown types)

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

from millstream.common.chunk import Filling, TokenClass
from millstream.common.errors import BadRequest, ContextLengthExceeded, Unavailable
from millstream.worker.engines.base import LoadProgress, ModelCard, silent
from millstream.worker.engines.computing.model import ComputingModel, load_computing_model
from millstream.worker.engines.computing.reading import read_text, told_tokens
from millstream.worker.engines.model_files.vocabulary import check_tokens
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.transformers.loading.kinds import ModelKind
from millstream.worker.engines.transformers.loading.packing import about_processor
from millstream.worker.engines.transformers.settings import EngineSettings

_BATCH_TOKENS = 8192  # padded tokens of one forward pass; bounds the memory of its activations
T = TypeVar("T")


class TransformersComputing:
    """Implements `ComputingEngine` for a model of one of the computing kinds. All methods but `close` block: call them
    in a thread."""

    kind: Literal["vectors"] = "vectors"

    def __init__(self, settings: EngineSettings, does: ModelKind = "encoder") -> None:
        self.settings = settings
        self.slots = settings.slots or 4  # batches that may wait for the model
        self._does: ModelKind = does
        self._model: ComputingModel | None = None
        self._one_at_a_time = threading.Lock()

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Loads the model and blocks meanwhile. Raises `MillstreamError` with the cause and the remedy."""
        self._model = model = load_computing_model(self.settings, self._does, progress)
        dtype = str(model.network.dtype).removeprefix("torch.")
        words = f"{self.settings.source.model}|{model.revision}|transformers|{dtype}"
        size = {"dimensions": str(model.width)} if model.embeds else {"classes": str(len(model.labels))}
        return ModelCard(
            name=model.name,
            engine="transformers",
            context_length=model.context_length,
            fingerprint="fp_" + hashlib.sha256(words.encode()).hexdigest()[:12],
            capabilities=_capabilities(model),
            details={"dtype": dtype, "device": str(model.network.device)}
            | size
            | about_processor(model.network, model.network.device),
        )

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        return self._ready().tokenizer

    def embed(
        self, inputs: list[list[int]], *, dimensions: int | None = None, truncate: bool = False
    ) -> list[list[float]]:
        """Returns one vector per input, in order. `dimensions` shortens them where the model allows it; `truncate` cuts
        long inputs instead of refusing them. Raises `BadRequest`, `ContextLengthExceeded`."""
        model = self._ready()
        _check_dimensions(model, dimensions)
        return self._passes(_fitted(inputs, model, truncate), lambda batch: model.vectors(batch, dimensions))

    def score(self, query: str, documents: list[str]) -> list[float]:
        """Returns how well each document answers the query: 0 to 1 by a cross-encoder, else -1 to 1, the vectors'
        cosine."""
        model = self._ready()
        if not model.scores_pairs:
            encode = model.tokenizer.encode
            first, *others = self.embed([encode(text) for text in (query, *documents)], truncate=True)
            return [_cosine(first, other) for other in others]
        scores: list[float] = []
        with self._one_at_a_time:
            for start in range(0, len(documents), 16):
                scores += model.pair_scores(query, documents[start : start + 16])
        return scores

    @property
    def labels(self) -> Sequence[str]:
        return self._ready().labels

    def classify(self, inputs: list[list[int]], *, truncate: bool = False) -> list[list[float]]:
        """Returns the probability of each class for each input; they sum to 1 unless each is judged by itself. Raises
        as `embed` does."""
        model = self._ready()
        return self._passes(_fitted(inputs, model, truncate), model.classes)

    def classify_tokens(self, texts: list[str], *, truncate: bool = False) -> list[list[TokenClass]]:
        """Returns the classes of each text's tokens in order, special ones left out. Raises as `embed` does."""
        model = self._ready()
        read = [read_text(model.tokenizer.inner, text) for text in texts]
        inputs = _fitted([each.ids for each in read], model, truncate)
        found = self._passes(inputs, model.classes_of_tokens)
        return [told_tokens(each, probs) for each, probs in zip(read, found, strict=True)]

    def fill(self, texts: list[str], most: int) -> list[list[list[Filling]]]:
        """Returns the `most` likeliest tokens for each gap of each text, best first. Raises `BadRequest` for a text
        without the mask token, and as `embed` does."""
        model = self._ready()
        decode, mask = model.tokenizer.decode, model.tokenizer.inner.mask_token
        inputs = _fitted([model.tokenizer.encode(text) for text in texts], model, truncate=False)
        for index, ids in enumerate(inputs):
            if model.tokenizer.inner.mask_token_id not in ids:
                raise BadRequest(f"Input {index} has no gap: mark it with '{mask}'.", param=f"input[{index}]")
        filled: list[list[list[Filling]]] = []
        with self._one_at_a_time:
            for ids in inputs:
                told = model.fillings(ids, most)
                filled.append([[Filling(decode([id]), id, prob) for id, prob in gap] for gap in told])
        return filled

    def close(self) -> None:
        self._model = None

    def _passes(self, inputs: list[list[int]], run: Callable[[list[list[int]]], list[T]]) -> list[T]:
        """Runs inputs of similar length together, and returns what came of each in the order given."""
        found: dict[int, T] = {}
        with self._one_at_a_time:
            for batch in _batches(inputs):
                found |= zip(batch, run([inputs[i] for i in batch]), strict=True)
        return [found[i] for i in range(len(inputs))]

    def _ready(self) -> ComputingModel:
        if self._model is None:
            raise Unavailable("The model is not loaded.")
        return self._model


def _capabilities(model: ComputingModel) -> tuple[str, ...]:
    match model.kind:
        case "classifier":
            return ("rerank", "classify") if model.scores_pairs else ("classify",)
        case "token_classifier":
            return ("token_classify",)
        case "fill_mask":
            return ("fill_mask", "embeddings")
        case _:
            return ("embeddings", "rerank")


def _fitted(inputs: list[list[int]], model: ComputingModel, truncate: bool) -> list[list[int]]:
    """Returns inputs that the model can take. Raises `BadRequest`, `ContextLengthExceeded`."""
    fitted = [_fit(ids, model, i, truncate) for i, ids in enumerate(inputs)]
    for index, ids in enumerate(fitted):
        check_tokens(ids, model.vocabulary, f"input[{index}]")
    return fitted


def _check_dimensions(model: ComputingModel, dimensions: int | None) -> None:
    if dimensions is None or dimensions == model.width:
        return
    if not model.matryoshka:
        raise BadRequest(
            f"{model.name!r} makes vectors of {model.width} dimensions only: leave `dimensions` out.",
            param="dimensions",
        )
    if not 0 < dimensions < model.width:
        raise BadRequest(f"`dimensions` must be between 1 and {model.width} for this model.", param="dimensions")


def _fit(ids: list[int], model: ComputingModel, index: int, truncate: bool) -> list[int]:
    limit = model.context_length
    if not ids:
        raise BadRequest("An input is empty: give at least one token.", param=f"input[{index}]")
    if len(ids) <= limit:
        return ids
    if truncate:
        return [*ids[: limit - 1], ids[-1]]  # the closing special token stays
    raise ContextLengthExceeded(
        f"Input {index} has {len(ids)} tokens, but this model takes at most {limit}: shorten it or set `truncate`.",
        param=f"input[{index}]",
    )


def _batches(inputs: list[list[int]]) -> Iterator[list[int]]:
    """Yields the indices of inputs that go together: of similar length, so that little is padded."""
    batch: list[int] = []
    for i in sorted(range(len(inputs)), key=lambda i: len(inputs[i])):
        if batch and (len(batch) + 1) * len(inputs[i]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return max(-1.0, min(1.0, dot / norms)) if norms else 0.0  # rounding may lead a little beyond
