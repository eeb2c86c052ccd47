"""Vectors and scores of an upstream: what it is asked for them, and what is checked of its answer. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from millstream.common.chunk import Result
from millstream.common.errors import BadRequest, EngineError
from millstream.common.job import EmbedInput, RerankInput
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.bodies import MILLSTREAM, UpstreamBody
from millstream.worker.engines.openai.replies import UsageReply

TEI = "text-embeddings-inference"
VLLM = "vllm"
COUNTED = "x-compute-tokens"  # TEI's header, for answers that have no place for usage
QUOTE = 200  # bytes of an answer that an error shows

ComputedWork = EmbedInput | RerankInput
Told = TypeVar("Told")


class VectorReply(msgspec.Struct):
    """One input's vector."""

    embedding: list[float]
    index: int | None = None


class VectorsReply(msgspec.Struct):
    """The answer of `/v1/embeddings`."""

    data: list[VectorReply]
    usage: UsageReply | None = None


class ScoreReply(msgspec.Struct):
    """One document's score: `relevance_score` as Jina and Cohere call it, `score` as TEI does."""

    index: int
    relevance_score: float | None = None
    score: float | None = None


class ScoresReply(msgspec.Struct):
    """The answer of `/v1/rerank`."""

    results: list[ScoreReply]
    usage: UsageReply | None = None


VECTORS = msgspec.json.Decoder(VectorsReply)
SCORES = msgspec.json.Decoder(ScoresReply)
BARE_SCORES = msgspec.json.Decoder(list[ScoreReply])


def parts(work: ComputedWork, abilities: Abilities) -> Iterator[ComputedWork]:
    """Yields the work in parts of as many inputs as the upstream takes at once."""
    name = "inputs" if isinstance(work, EmbedInput) else "documents"
    given: Sequence[object] = getattr(work, name)
    most = abilities.inputs or len(given)
    for at in range(0, len(given), most):
        yield msgspec.structs.replace(work, **{name: given[at : at + most]})


def computing_body(work: ComputedWork, abilities: Abilities, root: str) -> tuple[str, UpstreamBody]:
    """Returns the route and the body that ask for the vectors or the scores."""
    if isinstance(work, RerankInput):
        if abilities.server == TEI:
            return f"{root}/rerank", {"query": work.query, "texts": work.documents}
        return "/rerank", {"model": abilities.model, "query": work.query, "documents": work.documents}
    body: UpstreamBody = {"model": abilities.model, "input": work.inputs, "encoding_format": "float"}
    if work.dimensions not in (None, abilities.dimensions):  # many refuse the field whatever it says
        body["dimensions"] = work.dimensions
    if work.truncate and abilities.server == MILLSTREAM:
        body["truncate"] = True
    if work.truncate and abilities.server == VLLM:
        body["truncate_prompt_tokens"] = -1
    return "/embeddings", body


def read_computed(work: ComputedWork, abilities: Abilities, answer: bytes) -> tuple[Result, int]:
    """Returns what the answer says, in the order of the inputs, and the tokens that it counts. Raises `EngineError` for
    an answer that is none, `BadRequest` for dimensions that the upstream passes over."""
    if isinstance(work, EmbedInput):
        told = _decoded(VECTORS, answer)
        vectors = _in_order([(each.index, each.embedding) for each in told.data], len(work.inputs), "vectors")
        _check_vectors(vectors, work.dimensions, abilities)
        return Result(vectors=vectors), _tokens(told.usage)
    if answer.lstrip().startswith(b"["):
        ranked = ScoresReply(_decoded(BARE_SCORES, answer))
    else:
        ranked = _decoded(SCORES, answer)
    found = [
        (each.index, each.score if each.relevance_score is None else each.relevance_score) for each in ranked.results
    ]
    scores = [score for score in _in_order(found, len(work.documents), "scores") if score is not None]
    if len(scores) != len(work.documents) or not all(map(math.isfinite, scores)):
        raise EngineError("The upstream answered scores that are no numbers.")
    return Result(scores=scores), _tokens(ranked.usage)


def _decoded(decoder: "msgspec.json.Decoder[Told]", answer: bytes) -> Told:
    try:
        return decoder.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        said = answer[:QUOTE].decode("utf-8", "replace")
        raise EngineError(f"The upstream answered something that is no list of numbers ({error}): {said!r}") from error


def _in_order(found: Sequence[tuple[int | None, Told]], count: int, what: str) -> list[Told]:
    """Returns what was told of each input; entries without an index stand in the inputs' order."""
    placed = {at if index is None else index: value for at, (index, value) in enumerate(found)}
    if len(found) != count or sorted(placed) != list(range(count)):
        raise EngineError(f"The upstream answered {len(found)} {what} for {count} inputs, or counted them wrongly.")
    return [placed[at] for at in range(count)]


def _check_vectors(vectors: list[list[float]], wanted: int | None, abilities: Abilities) -> None:
    lengths = {len(vector) for vector in vectors}
    if wanted not in (None, abilities.dimensions) and lengths == {abilities.dimensions}:
        message = f"This model's upstream makes vectors of {abilities.dimensions} dimensions only."
        raise BadRequest(f"{message} Leave `dimensions` out.", param="dimensions")
    expected = wanted or abilities.dimensions
    if lengths != {expected}:
        told = ", ".join(map(str, sorted(lengths)[:4]))
        raise EngineError(f"The upstream answered vectors of {told} dimensions where {expected} were expected.")
    if not all(math.isfinite(value) for vector in vectors for value in vector):
        raise EngineError("The upstream answered vectors with values that are no numbers.")


def counted_by(headers: Mapping[str, str]) -> int:
    """Returns the tokens that an answer's headers tell, 0 if they tell none."""
    told = headers.get(COUNTED, "")
    return int(told) if told.isdecimal() else 0


def _tokens(usage: UsageReply | None) -> int:
    return (usage.prompt_tokens or usage.total_tokens or 0) if usage is not None else 0
