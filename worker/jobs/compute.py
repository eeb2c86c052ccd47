"""Jobs that generate nothing: embeddings, rerank, tokenize. Blocking; called in a thread."""

from millstream.common.chunk import Result
from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.common.job import EmbedInput, RerankInput, TokenizeInput
from millstream.worker.engines.base import Engine, ModelCard, Tokenizer
from millstream.worker.engines.embedding.computing import Computing

LONGEST_TOKEN = 16  # characters a token stands for at most, on average over a long text: white space and rulers reach it
Work = EmbedInput | RerankInput | TokenizeInput


def compute(engine: Engine, card: ModelCard, work: Work) -> tuple[Result, int]:
    """The result, and how many tokens went in. Raises `BadRequest` if this model cannot do it,
    `ContextLengthExceeded` for more to tokenize than it could ever read."""
    match work:
        case TokenizeInput():
            result = _tokenize(engine.tokenizer, card.context_length, work)
            return result, len(result.ids)
        case EmbedInput():
            inputs = [engine.tokenizer.encode(each) if isinstance(each, str) else each for each in work.inputs]
            vectors = _vectors(engine).vectors.embed(inputs, dimensions=work.dimensions, truncate=work.truncate)
            return Result(vectors=vectors), sum(map(len, inputs))
        case RerankInput(query, documents):
            scores = _vectors(engine).vectors.score(query, documents)
            texts = [query, *documents]
            return Result(scores=scores), sum(len(engine.tokenizer.encode(text)) for text in texts)


def _vectors(engine: Engine) -> Computing:
    if isinstance(engine, Computing):
        return engine
    raise BadRequest("This model generates text and makes no embeddings; use an embedding model.", param="model")


def _tokenize(tokenizer: Tokenizer, most: int, work: TokenizeInput) -> Result:
    """Work that takes a slot for minutes is refused before it begins, by its characters; what is still more tokens than
    the context holds, before it is spelt out."""
    if work.ids is not None:
        _check(len(work.ids), most, "tokens", "tokens")
        return Result(ids=work.ids, text=tokenizer.decode(work.ids, skip_special=False))
    if work.messages is not None:
        param, size = "messages", sum(len(str(message.get("content") or "")) for message in work.messages)
    else:
        param, size = "prompt", len(work.text or "")
    _check(size, most * LONGEST_TOKEN, f"characters in the {param}", param)
    if work.messages is not None:
        ids = tokenizer.chat(work.messages, work.tools, go_on=False, kwargs={})
    else:
        ids = tokenizer.encode(work.text or "", special=work.add_special_tokens)
    _check(len(ids), most, f"tokens in the {param}", param)
    return Result(ids=ids, pieces=[tokenizer.decode([id], skip_special=False) for id in ids])


def _check(size: int, most: int, what: str, param: str) -> None:
    if size > most:
        message = f"Too much for this model's context: {size} {what}, at most {most}. Send it in parts."
        raise ContextLengthExceeded(message, param=param)
