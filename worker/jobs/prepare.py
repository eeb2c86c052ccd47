"""The beginning of a job, before its first step: render the prompt, and take up where an earlier lease stopped.

It may take a while (a long text, many tokens to be fed again), so it runs in a thread unless it is `brief`, and touches
nothing shared. What a grammar takes comes after it, where it delays nobody else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from millstream.common.chunk import Chunk, FinishReason, Start
from millstream.common.errors import BadGrammar, BadRequest
from millstream.common.job import ChatPrompt, Guide, JobRequest, TextPrompt, TokensPrompt, ToolUse
from millstream.worker.engines.base import ModelCard, SequenceKey, SequenceSpec, TokenEngine, Tokenizer
from millstream.worker.engines.grammar.limits import check, check_parameters
from millstream.worker.engines.grammar.tool_guides import TOOLS, functions_of, tool_guide
from millstream.worker.engines.guide_limits import GuideLimits
from millstream.worker.text.bad_words import banned_sequences
from millstream.worker.text.parsers.formats import CallFormat, parser_for
from millstream.worker.text.prompt import characters, check_characters, prompt_ids, room_for, template_of
from millstream.worker.text.transcript import Transcript

BRIEF = 2000  # characters (or token ids) of a prompt: half a millisecond of a fast tokenizer
_OF_THE_GRAMMAR = re.compile(r"at \d+\(\d+\): failed to compile JSON schema: |\n +\d+ \| .*", re.DOTALL)
BRIEF_STOPS = 200  # characters of all stop strings: as long for the automaton that finds them


@dataclass(frozen=True, slots=True)
class Beginning:
    """A job that is ready to run. `over`: the tokens of earlier leases were the whole answer already."""

    spec: SequenceSpec
    transcript: Transcript
    start: Start
    over: FinishReason | None
    notation: CallFormat


def brief(request: JobRequest, earlier: Sequence[int]) -> bool:
    """Tells whether beginning takes less than a thread's taking over would: about a millisecond, as long as the event
    loop and a thread contend for the interpreter."""
    if earlier or request.guide or request.tool_use or sum(map(len, request.sampling.stop)) > BRIEF_STOPS:
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
    engine: TokenEngine,
    card: ModelCard,
    request: JobRequest,
    key: SequenceKey,
    earlier: Sequence[int],
    notation: CallFormat | None = None,
) -> Beginning:
    """Prepares a job for the engine. `notation`: how tool calls are written, if not as the chat template tells. Raises
    `BadRequest` (an empty or too long prompt, a template that refuses it) and `BadGrammar` (tools that cannot be
    forced)."""
    tokenizer = engine.tokenizer
    request = _with_stops(with_defaults(request, card.defaults), getattr(tokenizer, "stops", ()))
    _check_text(request, card.context_length)
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
        guide=_guide(request, notation, engine.guide_limits),
        prompt_logprobs=request.prompt_logprobs,
        banned=banned_sequences(tokenizer, request.sampling.bad_words),
        cache_salt=request.cache_salt,
    )
    _prepare(engine, spec)
    start = _start(tokenizer, card, request, spec)
    return Beginning(spec, transcript, start, _over(transcript, spec, tokenizer), notation)


def _start(tokenizer: Tokenizer, card: ModelCard, request: JobRequest, spec: SequenceSpec) -> Start:
    """Returns what chunk 1 tells."""
    ids = spec.prompt
    kind = "formats" if spec.guide is not None else "chat" if isinstance(request.input, ChatPrompt) else "completions"
    return Start(
        len(ids),
        card.fingerprint,
        tokenizer.decode(ids, skip_special=False) if request.echo else "",
        repeats=request.repeats_prompt,
        prompt_ids=ids if request.prompt_ids else [],
        exactness=card.exactness.get(kind, ""),
    )


def with_defaults(request: JobRequest, defaults: Mapping[str, float]) -> JobRequest:
    """Returns the request with the model's own sampling where the client left it to the model."""
    chosen = {name: defaults[name] for name in request.sampling.unset if name in defaults}
    if not chosen:
        return request
    return msgspec.structs.replace(request, sampling=msgspec.structs.replace(request.sampling, **chosen))


def _with_stops(request: JobRequest, stops: Sequence[str]) -> JobRequest:
    """Returns the request with the strings at which the chat template's turns end."""
    if not stops or not isinstance(request.input, ChatPrompt):
        return request
    sampling = msgspec.structs.replace(request.sampling, stop=[*request.sampling.stop, *stops])
    return msgspec.structs.replace(request, sampling=sampling)


def _check_text(request: JobRequest, context_length: int) -> None:
    match request.input:
        case ChatPrompt(messages):
            if any(isinstance(message.get("content"), list) for message in messages):
                raise BadRequest("This worker's engine reads no images.", param="messages")
            check_characters(characters(messages), context_length, "messages")
        case TextPrompt(text):
            check_characters(len(text), context_length, "prompt")
        case _:
            pass


def _prepare(engine: TokenEngine, spec: SequenceSpec) -> None:
    try:
        engine.prepare(spec)
    except BadGrammar as error:
        if spec.guide is not None and spec.guide.param == TOOLS:
            raise _not_forced(error) from error
        raise


async def compile_guide(engine: TokenEngine, begun: Beginning, request: JobRequest, tenant: str) -> None:
    """Does what takes longest of a beginning, and harms nobody if it fails. Raises `BadGrammar`; cancelled, it
    stops."""
    guide = begun.spec.guide
    if guide is None:
        return
    try:
        await engine.compile(guide, tenant)
    except BadGrammar as error:
        if guide.param == TOOLS:
            await _blame_a_tool(engine, begun.notation, request, tenant)
            raise _not_forced(error) from error
        raise


async def _blame_a_tool(engine: TokenEngine, notation: CallFormat, request: JobRequest, tenant: str) -> None:
    """Raises `BadGrammar` naming the first tool that cannot be compiled by itself; returns if there is none."""
    if request.tool_use is None or not isinstance(request.input, ChatPrompt):
        return
    for index, function in functions_of(request.input.tools, request.tool_use):
        tool = request.input.tools[index : index + 1]
        guide = tool_guide(notation.syntax, tool, ToolUse("named", function["name"], parallel=False))
        try:
            await engine.compile(guide, tenant)
        except BadGrammar as error:
            message = f"A call of the tool `{function['name']}` cannot be forced by its parameters: {_why(error)}"
            raise BadGrammar(message, param=f"tools[{index}].function.parameters") from error


def _why(error: BadGrammar) -> str:
    """Returns the compiler's reason in one line, without the grammar, which the client never saw."""
    own = _OF_THE_GRAMMAR.sub("", error.message.removeprefix("Cannot compile the grammar guide: "))
    return " ".join(own.split())


def _not_forced(error: BadGrammar) -> BadGrammar:
    return BadGrammar(f"The tools' parameters cannot be forced: {_why(error)}", param=TOOLS)


def _guide(request: JobRequest, notation: CallFormat, limits: GuideLimits) -> Guide | None:
    """A required or named tool call is forced by grammar, so that any model makes it. Raises `BadGrammar` for a guide
    above the limits."""
    use = request.tool_use
    if use is not None and use.choice != "auto" and isinstance(request.input, ChatPrompt):
        for index, function in functions_of(request.input.tools, use):
            check_parameters(function, index, limits)
        return tool_guide(notation.syntax, request.input.tools, use, limits.bytes)
    if request.guide is not None:
        check(request.guide, limits)
    return request.guide


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
