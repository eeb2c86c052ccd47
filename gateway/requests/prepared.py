"""A prepared request: one request after all checks, ready to be submitted or gone on with."""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import BaseModel

from millstream.common.errors import BadRequest, Forbidden
from millstream.common.job import JobInput, JobRequest, ModelName, Tier
from millstream.common.request_id import Family, RequestId, new_request_id
from millstream.gateway.queue.client import Submission
from millstream.gateway.requests.affinity import affinity as affinity_keys
from millstream.gateway.requests.vision import Vision
from millstream.gateway.services.caller import Caller


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request's jobs and how its answer is to be written."""

    id: RequestId
    caller: Caller
    submission: Submission
    stream: bool = False
    include_usage: bool = False


MOST_COPIED = 32 * 2**20  # bytes: each choice is a job with a copy of the prompt, on its way to Redis and in it


def question(body: BaseModel) -> bytes:
    """Returns the question in one form, streamed or not, so that a retry may read the answer either way. Raises
    `BadRequest` for text that is no Unicode (a lone surrogate)."""
    asked: dict[str, Any] = body.model_dump(mode="python", exclude_unset=True, exclude={"stream", "stream_options"})
    try:
        canonical = msgspec.json.encode(asked, order="sorted")
    except UnicodeEncodeError as error:
        raise BadRequest("The body holds text that is not valid Unicode (a lone surrogate).") from error
    except (OverflowError, RecursionError) as error:
        raise BadRequest("The body holds a number too large, or is nested too deep.") from error
    return type(body).__name__.encode() + canonical


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The context of a request: its kind, its model (aliases resolved) and who asks."""

    family: Family
    model: ModelName
    caller: Caller
    max_jobs: int
    default_max_tokens: int | None = None  # for a body that sets no bound
    vision: Vision | None = None  # None: the model reads no images
    clamp: bool = False  # a bound beyond the context's room is cut to it, not refused


def prepared(
    place: RequestContext, body: BaseModel, requests: list[JobRequest], tier: Tier = "default", affinity: str = ""
) -> PreparedRequest:
    """Returns the prepared request for these jobs. Raises `BadRequest` for more than one request may have."""
    if len(requests) > place.max_jobs:
        message = f"The request asks for {len(requests)} sequences (prompts x choices); at most {place.max_jobs}."
        raise BadRequest(message, param="n")
    asked = question(body)
    _check_copies(len(asked), len(requests) // len({id(request.input) for request in requests}))
    caller = place.caller
    if not caller.key.may_use(place.model):
        there = ", ".join(f"'{name}'" for name in caller.key.models)
        raise Forbidden(f"This API key may not use the model '{place.model}', only: {there}.", param="model")
    identity = new_request_id(place.family, place.model, len(requests))
    jobs = list(zip(identity.jobs(), (_placed(request, place) for request in requests), strict=True))
    submission = Submission(
        model=place.model,
        jobs=jobs,
        tenant=caller.tenant,
        tier=caller.key.tier(tier),
        timeout=caller.timeout,
        idempotency_key=caller.idempotency_key,
        fingerprint=hashlib.sha256(asked).hexdigest(),
        resumable=caller.resumable,
        affinity=affinity_keys(
            caller.tenant, caller.session or affinity, _only_prompt(requests), salt=caller.cache_salt
        ),
        key=caller.key,
    )
    return PreparedRequest(identity, caller, submission)


def _placed(request: JobRequest, place: RequestContext) -> JobRequest:
    """Returns the job with what its place says of it, beside the body."""
    sampling = msgspec.structs.replace(request.sampling, clamp=True) if place.clamp else request.sampling
    caller = place.caller
    return msgspec.structs.replace(
        request, cache_salt=caller.cache_salt, sampling=sampling, traceparent=caller.traceparent
    )


def _check_copies(size: int, choices: int) -> None:
    if choices > 1 and size * choices > MOST_COPIED:
        message = f"A request of {size} bytes may ask for at most {max(1, MOST_COPIED // size)} choices, not {choices}."
        raise BadRequest(message, param="n")


def _only_prompt(requests: list[JobRequest]) -> JobInput | None:
    """Returns the input with which all the jobs begin; None if they have prompts of their own."""
    first = requests[0].input
    return first if all(request.input == first for request in requests) else None


def streamed(prepared: PreparedRequest, stream: bool | None, include_usage: bool) -> PreparedRequest:
    """Returns the same request, answered as a stream or not."""
    return PreparedRequest(prepared.id, prepared.caller, prepared.submission, bool(stream), include_usage)
