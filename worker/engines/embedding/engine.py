"""Embeddings and scores: one forward pass per batch of inputs, nothing generated.

Pooling, projection and normalisation are what the model's own sentence-transformers files say; a model without them is
pooled by mean (encoders) or last token (decoders) and normalised.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch publish partly unknown types)

import hashlib
import math
import threading
from collections.abc import Iterator
from typing import Literal

from millstream.common.errors import BadRequest, ContextLengthExceeded, Unavailable
from millstream.worker.engines.base import LoadProgress, ModelCard
from millstream.worker.engines.embedding.model import EmbeddingModel, load_embedding_model
from millstream.worker.engines.model_files.vocabulary import check_tokens
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.transformers.loading.packing import about_processor
from millstream.worker.engines.transformers.settings import EngineSettings

_BATCH_TOKENS = 8192  # padded tokens of one forward pass; bounds the memory of its activations


def _silent(stage: str, fraction: float | None) -> None: ...


class TransformersEmbedding:
    """Implements `ComputingEngine`: an embedding model, or a cross-encoder for `score`. `embed` and `score` block: call
    them in a thread."""

    kind: Literal["vectors"] = "vectors"

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.slots = settings.slots or 4  # batches that may wait for the model
        self._model: EmbeddingModel | None = None
        self._one_at_a_time = threading.Lock()

    def load(self, progress: LoadProgress = _silent) -> ModelCard:
        """Loads the model and blocks meanwhile. Raises `MillstreamError` with the cause and the remedy."""
        self._model = model = load_embedding_model(self.settings, progress)
        dtype = str(model.network.dtype).removeprefix("torch.")
        words = f"{self.settings.source.model}|{model.revision}|transformers|{dtype}"
        kinds = ("rerank",) if model.cross_encoder else ("embeddings", "rerank")
        return ModelCard(
            name=model.name,
            engine="transformers",
            context_length=model.context_length,
            fingerprint="fp_" + hashlib.sha256(words.encode()).hexdigest()[:12],
            capabilities=kinds,
            details={"dtype": dtype, "device": str(model.network.device), "dimensions": str(model.width)}
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
        if model.cross_encoder:
            raise BadRequest(f"{model.name!r} is a cross-encoder: it scores pairs and makes no vectors.", param="model")
        _check_dimensions(model, dimensions)
        fitted = [_fit(ids, model, i, truncate) for i, ids in enumerate(inputs)]
        for index, ids in enumerate(fitted):
            check_tokens(ids, model.network.config.get_text_config().vocab_size, f"input[{index}]")
        vectors: list[list[float]] = [[] for _ in fitted]
        with self._one_at_a_time:
            for batch in _batches(fitted):
                for i, vector in zip(batch, model.vectors([fitted[i] for i in batch], dimensions), strict=True):
                    vectors[i] = vector
        return vectors

    def score(self, query: str, documents: list[str]) -> list[float]:
        """Returns how well each document answers the query: 0 to 1 by a cross-encoder, else -1 to 1, the vectors'
        cosine."""
        model = self._ready()
        if not model.cross_encoder:
            encode = model.tokenizer.encode
            first, *others = self.embed([encode(text) for text in (query, *documents)], truncate=True)
            return [_cosine(first, other) for other in others]
        scores: list[float] = []
        with self._one_at_a_time:
            for start in range(0, len(documents), 16):
                scores += model.pair_scores(query, documents[start : start + 16])
        return scores

    def close(self) -> None:
        self._model = None

    def _ready(self) -> EmbeddingModel:
        if self._model is None:
            raise Unavailable("The embedding engine is not loaded.")
        return self._model


def _check_dimensions(model: EmbeddingModel, dimensions: int | None) -> None:
    if dimensions is None or dimensions == model.width:
        return
    if not model.matryoshka:
        raise BadRequest(
            f"{model.name!r} makes vectors of {model.width} dimensions only: leave `dimensions` out.",
            param="dimensions",
        )
    if not 0 < dimensions < model.width:
        raise BadRequest(f"`dimensions` must be between 1 and {model.width} for this model.", param="dimensions")


def _fit(ids: list[int], model: EmbeddingModel, index: int, truncate: bool) -> list[int]:
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
