"""The beginning of a job, before its first step: render the prompt, and take up where an earlier lease stopped.

It may take a while (a long text, a grammar, many tokens to be fed again), so it runs in a thread unless it is `brief`,
and touches nothing shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from millstream.common.chunk import Chunk, FinishReason, Start
from millstream.common.errors import BadGrammar, BadRequest
from millstream.common.job import ChatPrompt, Guide, JobRequest, TextPrompt, TokensPrompt
from millstream.worker.engines.base import Engine, ModelCard, SequenceKey, SequenceSpec, Tokenizer
from millstream.worker.engines.grammar.tool_guides import tool_guide
from millstream.worker.text.parsers.formats import CallFormat, parser_for
from millstream.worker.text.prompt import prompt_ids, room_for, template_of
from millstream.worker.text.transcript import Transcript

BRIEF = 2000  # characters (or token ids) of a prompt: half a millisecond of a fast tokenizer


@dataclass(frozen=True, slots=True)
class Beginning:
    """A job that is ready to run. `over`: the tokens of earlier leases were the whole answer already."""

    spec: SequenceSpec
    transcript: Transcript
    start: Start
    over: FinishReason | None


def brief(request: JobRequest, earlier: Sequence[int]) -> bool:
    """Tells whether beginning takes less than a thread's taking over would: about a millisecond, as long as the event
    loop and a thread contend for the interpreter."""
    if earlier or request.guide or request.tool_use:
        return False
    match request.input:
        case ChatPrompt(messages, tools):
            return not tools and sum(len(str(message.get("content"))) for message in messages) <= BRIEF
        case TextPrompt(text):
            return len(text) <= BRIEF
        case TokensPrompt(ids):
            return len(ids) <= BRIEF
        case _:
            return False


def begin_sequence(
    engine: Engine,
    card: ModelCard,
    request: JobRequest,
    key: SequenceKey,
    earlier: Sequence[int],
    notation: CallFormat | None = None,
) -> Beginning:
    """Prepares a job for the engine. `notation`: how tool calls are written, if not as the chat template tells. Raises
    `BadRequest` (a model that does not generate, an empty or too long prompt, a template that refuses it) and
    `BadGrammar` (tools that cannot be forced)."""
    if "completions" not in card.capabilities:
        raise BadRequest(f"The model `{card.name}` does not generate: use /v1/embeddings or /v1/rerank.", param="model")
    tokenizer = engine.tokenizer
    notation = notation or parser_for(template_of(tokenizer))
    ids = prompt_ids(tokenizer, request, notation)
    room = room_for(request, len(ids), card.context_length)
    transcript = Transcript(tokenizer, request, ids, notation)
    transcript.refeed(earlier)
    spec = SequenceSpec(
        key=key,
        prompt=ids,
        sampling=request.sampling,
        max_tokens=room,
        generated=list(earlier),
        guide=_guide(request, notation),
        prompt_logprobs=request.prompt_logprobs,
    )
    _prepare(engine, spec, forced=spec.guide is not request.guide)
    echo = tokenizer.decode(ids) if request.echo else ""
    start = Start(prompt_tokens=len(ids), fingerprint=card.fingerprint, echo=echo, repeats=request.repeats_prompt)
    return Beginning(spec, transcript, start, _over(transcript, spec, tokenizer))


def _prepare(engine: Engine, spec: SequenceSpec, *, forced: bool) -> None:
    """Prepares the sequence in the engine. `forced`: the guide was made of the tools."""
    try:
        engine.prepare(spec)
    except BadGrammar as error:
        if not forced:
            raise
        raise BadGrammar(f"The tools' parameters cannot be forced: {error.message}", param="tools") from error


def _guide(request: JobRequest, notation: CallFormat) -> Guide | None:
    """Returns the guide of the answer. A required or named tool call is forced by grammar, so that any model makes
    it."""
    use = request.tool_use
    if use is None or use.choice == "auto" or not isinstance(request.input, ChatPrompt):
        return request.guide
    return tool_guide(notation.syntax, request.input.tools, use)


def _over(transcript: Transcript, spec: SequenceSpec, tokenizer: Tokenizer) -> FinishReason | None:
    """Returns why the answer is complete already, or None. A worker may die between the last token and the last chunk:
    then there is nothing left to compute. Nor is there where no token is asked for, unless the prompt's own are to be
    scored."""
    last = spec.generated[-1] if spec.generated else None
    sampling = spec.sampling
    at_end = last in sampling.stop_token_ids or (last in tokenizer.eos_ids and not sampling.ignore_eos)
    if transcript.stopped or at_end:
        return "stop"
    full = len(spec.generated) >= spec.max_tokens
    return "length" if full and (spec.generated or spec.prompt_logprobs is None) else None


def earlier_tokens(chunks: Sequence[Chunk]) -> list[int]:
    """Returns the completion tokens that earlier leases logged."""
    return [token for chunk in chunks for token in chunk.ids]
