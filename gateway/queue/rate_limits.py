"""The limits of an API key: tokens are reserved before a request enters, and the response tells what is left."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import msgspec

from millstream.common.broker.accounts.keyring import ApiKey, KeyLimits
from millstream.common.broker.accounts.limits import Meter, Reserved, refund, reserve, settle_owed
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.connection.by_server import look_at_each
from millstream.common.broker.models.directory import model_names
from millstream.common.errors import Overloaded, QuotaExceeded
from millstream.common.job import AudioInput, ChatPrompt, JobId, JobRequest, TextPrompt, TokensPrompt
from millstream.gateway.queue.client import Submission

UNSTATED = 4096  # completion tokens that a key with a limit on tokens gets when its request does not say how many
SHARE = 4  # but at most one in so many of its smallest limit
BYTES_PER_TOKEN = 2048  # of a recording: MP3 of 64 kbit/s, and four tokens a second
CHARACTERS_PER_TOKEN = 4  # of a request's JSON: the gateway has no tokenizer, and the true count settles it in the end


def estimate(request: JobRequest) -> int:
    """Returns the tokens a job may use: its input's, guessed from its size, and as many as it may answer with, if it
    generates."""
    if isinstance(request.input, AudioInput):
        return len(request.input.audio) // BYTES_PER_TOKEN + 1
    prompt = len(msgspec.json.encode(request.input)) // CHARACTERS_PER_TOKEN + 1
    if not _generates(request):
        return prompt
    sampling = request.sampling
    return prompt + (sampling.max_tokens if sampling.max_tokens is not None else sampling.at_most or 0)


def answer_bound(limits: KeyLimits) -> int | None:
    """Tokens that an answer may have at most if its request does not say; None without a limit on tokens."""
    given = [each for each in (limits.tokens_per_minute, limits.tokens_per_day, limits.tokens_per_month) if each]
    return max(1, min(UNSTATED, min(given) // SHARE)) if given else None


def within_limits(submission: Submission) -> Submission:
    """Returns the submission with a bound for the answers that have none: what is set aside for a request is then the
    most that it can use, and a burst of requests cannot use more than the key allows."""
    bound = answer_bound(submission.key.limits) if submission.key is not None and submission.key.id else None
    if bound is None:
        return submission
    return replace(submission, jobs=[(id, _bounded(request, bound)) for id, request in submission.jobs])


def _bounded(request: JobRequest, bound: int) -> JobRequest:
    if not _generates(request) or request.sampling.max_tokens is not None:
        return request
    return msgspec.structs.replace(request, sampling=msgspec.structs.replace(request.sampling, at_most=bound))


def _generates(request: JobRequest) -> bool:
    return isinstance(request.input, ChatPrompt | TextPrompt | TokensPrompt)


def duration(seconds: float) -> str:
    """Writes a duration as OpenAI does: `120ms`, `1s`, `6m0s`, `23h59m0s`. Rounded up: a client that comes back then is
    not too early."""
    if seconds < 1:
        return f"{max(0, math.ceil(seconds * 1000))}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def rate_headers(limits: KeyLimits, meter: Meter) -> dict[str, str]:
    """Returns OpenAI's `x-ratelimit-*`, for the limits the key has."""
    headers: dict[str, str] = {}
    if limits.requests_per_minute:
        headers |= _three("requests", limits.requests_per_minute, meter.requests, meter.requests_reset)
    if limits.tokens_per_minute:
        headers |= _three("tokens", limits.tokens_per_minute, meter.tokens, meter.tokens_reset)
    return headers


def _three(what: str, limit: int, left: int, reset: float) -> dict[str, str]:
    figures = {"limit": str(limit), "remaining": str(left), "reset": duration(reset)}
    return {f"x-ratelimit-{name}-{what}": value for name, value in figures.items()}


def refusal(key: ApiKey, answer: Reserved, asked: int) -> Overloaded:
    """Returns the 429 that says which limit was reached, how far, and when to come back."""
    limits, wait = key.limits, f" Please try again in {duration(answer.wait)}."
    headers = rate_headers(limits, answer.meter)
    match answer.reason:
        case "day" | "month":
            budget = limits.tokens_per_day if answer.reason == "day" else limits.tokens_per_month
            text = f"You exceeded your budget of {budget} tokens per {answer.reason}."
            return QuotaExceeded(text + wait, retry_after=answer.wait, headers=headers)
        case "concurrent":
            text = f"Rate limit reached: {limits.concurrent} requests at once; one must end first."
        case "requests":
            text = f"Rate limit reached on requests per min (RPM): Limit {limits.requests_per_minute}."
        case "size":
            text = f"Request too large on tokens per min (TPM): Limit {limits.tokens_per_minute}, Requested {asked}."
            text += " The prompt or 'max_tokens' must be reduced in order to run successfully."
            return Overloaded(text, retry_after=60, headers=headers)
        case _:
            used = limits.tokens_per_minute - answer.meter.tokens
            text = f"Rate limit reached on tokens per min (TPM): Limit {limits.tokens_per_minute}, Used {used}, "
            text += f"Requested {asked}."
    return Overloaded(text + wait, retry_after=answer.wait, headers=headers)


class RateLimiter:
    """Reserves and gives back for one gateway. Settling is the upkeep's, wherever it runs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def reserve(self, submission: Submission) -> Mapping[str, str]:
        """Sets the request's tokens aside; the headers that tell what is left. Raises `Overloaded`, `QuotaExceeded`,
        `RedisAway`."""
        key = submission.key
        if key is None or not key.id:
            return {}
        tokens = {job: estimate(request) for job, request in submission.jobs}
        answer = await self._reserve(key, submission, tokens)
        if answer.reason:
            await self._settle_all()  # what has ended a moment ago may not be settled yet
            answer = await self._reserve(key, submission, tokens)
        if answer.reason:
            raise refusal(key, answer, sum(tokens.values()))
        return rate_headers(key.limits, answer.meter)

    async def _reserve(self, key: ApiKey, submission: Submission, tokens: Mapping[JobId, int]) -> Reserved:
        request = submission.jobs[0][0]
        return await reserve(self._broker, key, request, tokens, int(submission.timeout * 1000))

    async def _settle_all(self) -> None:
        await look_at_each(self._broker, await model_names(self._broker), partial(settle_owed, self._broker))

    async def give_back(self, submission: Submission) -> None:
        """Gives the reservation of a request back that did not enter. Raises `RedisAway`; the reservation lapses by
        itself then."""
        if submission.key is not None and submission.key.id:
            await refund(self._broker, submission.key.id, [job for job, _ in submission.jobs])
