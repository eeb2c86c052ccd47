"""Jobs that generate nothing: vectors, scores, classes, fillings, tokens. Blocking; called in a thread."""

from millstream.common.chunk import Result
from millstream.common.errors import ContextLengthExceeded
from millstream.common.job import (
    AudioInput,
    ClassifyInput,
    EmbedInput,
    FillInput,
    RerankInput,
    TokenizeInput,
    WorkInput,
)
from millstream.worker.engines.base import ComputingEngine, ModelCard, TokenEngine, Tokenizer
from millstream.worker.engines.routes import require
from millstream.worker.text.parsers.formats import CallFormat, parser_for
from millstream.worker.text.prompt import characters, chat_ids, check_characters, template_of

Computation = EmbedInput | RerankInput | ClassifyInput | FillInput


def compute(
    engine: TokenEngine | ComputingEngine, card: ModelCard, work: WorkInput, notation: CallFormat | None = None
) -> tuple[Result, int]:
    """Returns the result, and how many tokens the model read. `notation`: how tool calls are written. Raises
    `BadRequest` if this model cannot do it, `ContextLengthExceeded` for more than it could ever read."""
    if isinstance(work, TokenizeInput):
        result = _tokenize(engine.tokenizer, card.context_length, work, notation)
        return result, len(result.ids)
    require(card, capability_of(work))
    assert engine.kind == "vectors"  # no other card has these capabilities
    result, given = _computed(engine, work)
    return result, sum(min(length, card.context_length) for length in given)  # what is longer was cut, or refused


def capability_of(work: Computation | AudioInput) -> str:
    """Returns the capability that a model needs for this."""
    match work:
        case EmbedInput():
            return "embeddings"
        case RerankInput():
            return "rerank"
        case ClassifyInput(each_token=each_token):
            return "token_classify" if each_token else "classify"
        case FillInput():
            return "fill_mask"
        case AudioInput(translate=translate):
            return "translations" if translate else "transcriptions"


def _computed(engine: ComputingEngine, work: Computation) -> tuple[Result, list[int]]:
    """Returns the result, and the length of each input in tokens, before it was cut."""
    match work:
        case EmbedInput():
            inputs = _ids(engine, work.inputs)
            vectors = engine.embed(inputs, dimensions=work.dimensions, truncate=work.truncate)
            return Result(vectors=vectors), list(map(len, inputs))
        case RerankInput(query, documents):
            return Result(scores=engine.score(query, documents)), _lengths(engine, [query, *documents])
        case ClassifyInput(inputs=given, each_token=True):
            texts = [each for each in given if isinstance(each, str)]
            found = engine.classify_tokens(texts, truncate=work.truncate)
            return Result(labels=list(engine.labels), token_classes=found), _lengths(engine, texts)
        case ClassifyInput():
            inputs = _ids(engine, work.inputs)
            probs = engine.classify(inputs, truncate=work.truncate)
            return Result(labels=list(engine.labels), probs=probs), list(map(len, inputs))
        case FillInput(texts, most):
            return Result(fillings=engine.fill(texts, most)), _lengths(engine, texts)


def _ids(engine: ComputingEngine, inputs: list[str | list[int]]) -> list[list[int]]:
    return [engine.tokenizer.encode(each) if isinstance(each, str) else each for each in inputs]


def _lengths(engine: ComputingEngine, texts: list[str]) -> list[int]:
    return [len(engine.tokenizer.encode(text)) for text in texts]


def _tokenize(tokenizer: Tokenizer, most: int, work: TokenizeInput, notation: CallFormat | None) -> Result:
    """Text that the model could never read is refused: by its characters before the work, by its tokens before each of
    them is spelt out."""
    if work.ids is not None:
        _check(len(work.ids), most, "tokens")
        return Result(ids=work.ids, text=tokenizer.decode(work.ids, skip_special=False))
    if work.messages is not None:
        check_characters(characters(work.messages), most, "messages")
        ids = chat_ids(tokenizer, work.messages, work.tools, notation or parser_for(template_of(tokenizer)))
    else:
        check_characters(len(work.text or ""), most, "prompt")
        ids = tokenizer.encode(work.text or "", special=work.add_special_tokens)
    _check(len(ids), most, "prompt" if work.messages is None else "messages")
    return Result(ids=ids, pieces=[tokenizer.decode([id], skip_special=False) for id in ids])


def _check(count: int, most: int, param: str) -> None:
    if count > most:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {most} tokens. However, '{param}' has {count} tokens. Please "
            "send it in parts.",
            param=param,
            needed=count,
        )
