"""An embedding engine in the place of an engine: it generates nothing, so nothing steps."""

from millstream.common.errors import BadRequest
from millstream.common.job import Guide
from millstream.worker.engines.base import (
    EmbeddingEngine,
    EngineStats,
    GuideLimits,
    LoadProgress,
    ModelCard,
    SequenceKey,
    SequenceSpec,
    Sink,
    Tokenizer,
    silent,
)


class Computing:
    """Implements `Engine` for a model that only computes; `vectors` is what computes."""

    def __init__(self, vectors: EmbeddingEngine) -> None:
        self.vectors = vectors
        self.slots = vectors.slots
        self.guide_limits = GuideLimits()
        self.broken: BaseException | None = None
        self._name = ""

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        card = self.vectors.load(progress)
        self._name = card.name
        return card

    @property
    def tokenizer(self) -> Tokenizer:
        return self.vectors.tokenizer

    def start(self, sink: Sink) -> None:
        pass  # there are no outputs

    def prepare(self, spec: SequenceSpec) -> None:
        self.add(spec)

    async def compile(self, guide: Guide, tenant: str) -> None:
        raise self._generates_nothing()

    def add(self, spec: SequenceSpec) -> None:
        raise self._generates_nothing()

    def _generates_nothing(self) -> BadRequest:
        return BadRequest(f"The model `{self._name}` does not generate: use /v1/embeddings.", param="model")

    def abort(self, key: SequenceKey) -> None:
        pass

    def stats(self) -> EngineStats:
        return EngineStats(running=0, steps=0)

    def close(self) -> None:
        self.vectors.close()
