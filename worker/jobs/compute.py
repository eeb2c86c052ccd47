"""Jobs that generate nothing: embeddings, rerank, tokenize. Blocking; called in a thread."""

from millstream.common.chunk import Result
from millstream.common.errors import BadRequest
from millstream.common.job import EmbedInput, RerankInput, TokenizeInput
from millstream.worker.engines.base import Engine, Tokenizer
from millstream.worker.engines.embedding.computing import Computing

Work = EmbedInput | RerankInput | TokenizeInput


def compute(engine: Engine, work: Work) -> tuple[Result, int]:
    """Returns the result, and how many tokens went in. Raises `BadRequest` if this model cannot do it."""
    match work:
        case TokenizeInput():
            result = _tokenize(engine.tokenizer, work)
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


def _tokenize(tokenizer: Tokenizer, work: TokenizeInput) -> Result:
    if work.ids is not None:
        return Result(ids=work.ids, text=tokenizer.decode(work.ids, skip_special=False))
    if work.messages is not None:
        ids = tokenizer.chat(work.messages, work.tools, go_on=False, kwargs={})
    else:
        ids = tokenizer.encode(work.text or "", special=work.add_special_tokens)
    return Result(ids=ids, pieces=[tokenizer.decode([id], skip_special=False) for id in ids])
