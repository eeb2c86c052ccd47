"""Turns `POST /v1/completions` into a prepared request."""

from dataclasses import dataclass

from millstream.common.errors import BadRequest
from millstream.common.job import JobRequest, TextPrompt, TokensPrompt
from millstream.gateway.apis.chat.read import choice_request
from millstream.gateway.apis.completions.shape import CompletionRequest
from millstream.gateway.apis.shared.read.guides import guide
from millstream.gateway.apis.shared.read.messages import unsupported
from millstream.gateway.apis.shared.read.sampling import (
    check_prompt_logprobs,
    check_stream_options,
    choice_seed,
    sampling,
    tier,
    wants_running_usage,
)
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared, streamed

LEGACY_MAX_TOKENS = 16  # OpenAI's default of this endpoint


@dataclass(frozen=True, slots=True)
class Candidates:
    """The relation of a completion's jobs to its choices: of each prompt's `made` the best `kept` are given."""

    made: int
    kept: int
    logprobs: int | None  # as the client asked; ranking may have needed them beside
    echo: bool = False
    token_ids: bool = False
    prompt_logprobs: int | None = None
    running_usage: bool = False  # of a stream, with each chunk


def prepare_completion(body: CompletionRequest, place: RequestContext) -> PreparedRequest:
    """Returns the jobs of a completion: for each prompt `best_of` (or `n`). Raises `BadRequest` naming the field at
    fault."""
    if body.suffix:
        raise unsupported("suffix", "the models here continue a prompt, they cannot insert text before a suffix")
    check_prompt_logprobs(body)
    asked = candidates(body)
    ranked = asked.made > asked.kept
    logprobs = 0 if ranked and body.logprobs is None else body.logprobs
    max_tokens = body.max_tokens if body.max_tokens is not None else place.default_max_tokens or LEGACY_MAX_TOKENS
    chosen = sampling(body, max_tokens, logprobs)
    bound = guide(body, body.response_format)
    echo, ids = bool(body.echo), bool(body.return_token_ids)
    scored = most([body.prompt_logprobs, body.logprobs if echo else None])
    seed = choice_seed(body.seed, 0)
    jobs = [
        choice_request(
            JobRequest(prompt, chosen, bound, echo=echo, prompt_logprobs=scored, prompt_ids=ids), seed, index
        )
        for prompt in prompts(body)
        for index in range(asked.made)
    ]
    made = prepared(place, body, jobs, tier(body), body.prompt_cache_key or body.user or "")
    return streamed(made, body.stream, check_stream_options(body))


def prompts(body: CompletionRequest) -> list[TextPrompt | TokensPrompt]:
    """Returns one prompt per choice set. An absent prompt stands for an empty text, as in OpenAI's reference."""
    match body.prompt:
        case None:
            return [TextPrompt("")]
        case str(text):
            return [TextPrompt(text)]
        case []:
            raise BadRequest("Invalid 'prompt': empty array. Expected at least one prompt.", param="prompt")
        case [int(), *_]:
            return [TokensPrompt([token for token in body.prompt if isinstance(token, int)])]
        case many:
            return [_prompt(entry, index) for index, entry in enumerate(many)]


def _prompt(entry: str | int | list[int], index: int) -> TextPrompt | TokensPrompt:
    match entry:
        case str(text):
            return TextPrompt(text)
        case [*ids] if ids:
            return TokensPrompt(ids)
        case _:
            raise BadRequest(f"Invalid 'prompt[{index}]': expected at least one token.", param=f"prompt[{index}]")


def most(asked: list[int | None]) -> int | None:
    """Returns the largest number asked for; None if there is none."""
    return max((each for each in asked if each is not None), default=None)


def candidates(body: CompletionRequest) -> Candidates:
    """Raises `BadRequest` for fewer candidates than choices, and for a choice among them that is streamed."""
    kept = body.n or 1
    made = body.best_of or kept
    if made < kept:
        raise BadRequest(f"'best_of' ({made}) must be at least 'n' ({kept}).", param="best_of")
    if made > kept and body.stream:
        raise BadRequest("'best_of' above 'n' cannot be streamed: the best is known at the end.", param="best_of")
    return Candidates(
        made,
        kept,
        body.logprobs,
        echo=bool(body.echo),
        token_ids=bool(body.return_token_ids),
        prompt_logprobs=body.prompt_logprobs,
        running_usage=wants_running_usage(body),
    )
