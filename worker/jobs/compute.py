"""Jobs that generate nothing: embeddings, rerank, tokenize. Blocking; called in a thread."""

from millstream.common.chunk import Result
from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.common.job import EmbedInput, RerankInput, TokenizeInput
from millstream.worker.engines.base import ComputingEngine, ModelCard, TokenEngine, Tokenizer
from millstream.worker.text.parsers.formats import CallFormat, parser_for
from millstream.worker.text.prompt import characters, chat_ids, check_characters, template_of

Work = EmbedInput | RerankInput | TokenizeInput


def compute(
    engine: TokenEngine | ComputingEngine, card: ModelCard, work: Work, notation: CallFormat | None = None
) -> tuple[Result, int]:
    """The result, and how many tokens went in. `notation`: how tool calls are written. Raises `BadRequest` if
    this model cannot do it, `ContextLengthExceeded` for more to tokenize than it could ever read."""
    match work:
        case TokenizeInput():
            result = _tokenize(engine.tokenizer, card.context_length, work, notation)
            return result, len(result.ids)
        case EmbedInput():
            inputs = [engine.tokenizer.encode(each) if isinstance(each, str) else each for each in work.inputs]
            vectors = _vectors(engine).embed(inputs, dimensions=work.dimensions, truncate=work.truncate)
            return Result(vectors=vectors), sum(map(len, inputs))
        case RerankInput(query, documents):
            scores = _vectors(engine).score(query, documents)
            texts = [query, *documents]
            return Result(scores=scores), sum(len(engine.tokenizer.encode(text)) for text in texts)


def _vectors(engine: TokenEngine | ComputingEngine) -> ComputingEngine:
    if engine.kind == "vectors":
        return engine
    raise BadRequest("This model generates text and makes no embeddings; use an embedding model.", param="model")


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
