"""Every error of Millstream, one tree, each with a stable `code`.

    MillstreamError
    ├── BadRequest              the client's fault: what was wrong, which parameter, what would be right
    │   ├── ContextLengthExceeded
    │   ├── BadGrammar          a schema or pattern that cannot be compiled
    │   ├── ModelNotFound
    │   ├── NotFound
    │   │   └── RecordLost      it was made just before a restart of Redis, which lost it
    │   ├── BodyTooLarge
    │   ├── TooLargeToWait      by itself more than a queue's bound, so that it could be refused for ever
    │   ├── IdempotencyConflict
    │   └── LogExpired          a stream asked for after its chunk log is gone
    ├── Unauthorized
    │   └── Forbidden
    ├── Overloaded              queue or limit full: come back after `retry_after` seconds
    │   └── QuotaExceeded       an API key's budget is used up
    ├── Expired                 the deadline passed
    ├── Cancelled
    ├── Unavailable             Redis or the cluster is away for now
    └── JobFailed               the worker's or the model's fault
        ├── WorkerLost          the job's workers died `max_attempts` times
        ├── EngineError         this job failed inside the engine
        ├── StreamLost          chunks that cannot be restored
        └── Interrupted         the engine died in mid-answer, and no other can go on without splicing

A worker writes them into the job's last chunk as `Failure(code, message, param)`; `from_failure` builds them again in
the gateway, and `gateway/errors.py` is the one table that turns a code into OpenAI's status and type.
"""

from collections.abc import Mapping
from typing import ClassVar

from millstream.common.chunk import ContextSizes, Failure


class MillstreamError(Exception):
    """The root of all our errors. `param` names the request's parameter at fault, as a path such as
    `messages[2].content`."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after  # seconds

    def failure(self) -> Failure:
        """Returns the same error as a job's last chunk carries it."""
        return Failure(code=self.code, message=self.message, param=self.param)


class BadRequest(MillstreamError):
    code = "invalid_request"


class ContextLengthExceeded(BadRequest):
    """`sizes` are the numbers, for the APIs that tell them in words of their own; None from whoever does not know.
    `needed` is the context that the request asks for, in tokens, 0 where that is not known."""

    code = "context_length_exceeded"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        sizes: ContextSizes | None = None,
        needed: int = 0,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.sizes = sizes
        self.needed = needed

    def failure(self) -> Failure:
        return Failure(self.code, self.message, self.param, self.sizes)


class BadGrammar(BadRequest):
    code = "invalid_grammar"


class ModelNotFound(BadRequest):
    code = "model_not_found"


class NotFound(BadRequest):
    code = "not_found"


class RecordLost(NotFound):
    code = "record_lost"


class BodyTooLarge(BadRequest):
    code = "request_too_large"


class TooLargeToWait(BadRequest):
    code = "too_large_to_wait"


class IdempotencyConflict(BadRequest):
    code = "idempotency_conflict"


class LogExpired(BadRequest):
    code = "stream_expired"


class Unauthorized(MillstreamError):
    code = "invalid_api_key"


class Forbidden(Unauthorized):
    code = "forbidden"


class Overloaded(MillstreamError):
    """`headers` tell what is left of the limits (`x-ratelimit-*`)."""

    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.headers = headers or {}


class QuotaExceeded(Overloaded):
    code = "insufficient_quota"


class Expired(MillstreamError):
    code = "deadline_exceeded"


class Cancelled(MillstreamError):
    code = "cancelled"


class Unavailable(MillstreamError):
    code = "service_unavailable"


class JobFailed(MillstreamError):
    code = "job_failed"


class WorkerLost(JobFailed):
    code = "worker_lost"


class EngineError(JobFailed):
    code = "engine_error"


class StreamLost(JobFailed):
    code = "stream_lost"


class Interrupted(JobFailed):
    code = "answer_interrupted"


def _tree(root: type[MillstreamError]) -> dict[str, type[MillstreamError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[MillstreamError]] = _tree(MillstreamError)


def from_failure(failure: Failure) -> MillstreamError:
    """Returns the error a job's last chunk tells of; an unknown code becomes `JobFailed`."""
    error = BY_CODE.get(failure.code, JobFailed)(failure.message, param=failure.param)
    if isinstance(error, ContextLengthExceeded):
        error.sizes = failure.sizes
    return error
