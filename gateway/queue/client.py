"""The contract of the queue: submit jobs, follow their chunk logs, cancel them. `gateway.queue.redis_client`
has the real client; tests of the HTTP surface have their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.job import JobId, JobRequest, ModelName, Tier
from millstream.gateway.queue.sink import ChunkSink, LoggedChunk


@dataclass(frozen=True, slots=True)
class Submission:
    """One request's jobs (`n=3` is three), submitted together or not at all."""

    model: ModelName
    jobs: list[tuple[JobId, JobRequest]]
    tenant: str = "default"
    tier: Tier = "default"
    timeout: float = 600.0  # seconds until the deadline
    idempotency_key: str | None = None
    fingerprint: str = ""  # of the body: the same key with another fingerprint is a conflict
    resumable: bool = False  # the jobs run on when their client leaves
    kept: bool = False  # the answer is to be stored: the jobs run on when their gateway dies
    affinity: tuple[str, ...] = ()  # session and prompt beginnings, for routing: `gateway.requests.affinity`
    key: ApiKey | None = None  # whose limits count, and with which weight among tenants


@dataclass(frozen=True, slots=True)
class Admission:
    """The outcome of a submission. `duplicate`: the idempotency key is known; `jobs` are the earlier request's."""

    outcome: Literal["routed", "queued", "duplicate"]
    jobs: list[JobId]
    position: int = 0  # place in the queue: 1 is next
    wait: float | None = None  # estimated seconds until a slot frees; None: not known
    workers: int | None = None  # live workers of the model, told when it is none
    headers: Mapping[str, str] = field(default_factory=dict[str, str])  # what is left of the key's limits


@dataclass(frozen=True, slots=True)
class Waiting:
    """The place of a queued job now; `wait` in seconds. None: not known."""

    position: int
    wait: float | None
    workers: int | None
    loading: str = ""  # what the worker that loads the model just now is at


class QueueClient(Protocol):
    """The gateway's way to the queue."""

    async def submit(self, submission: Submission) -> Admission:
        """Raises `ModelNotFound`, `Overloaded` (with `retry_after`), `TooLargeToWait`, `IdempotencyConflict`,
        `Unavailable`."""
        ...

    async def follow(
        self, model: ModelName, job: JobId, sink: ChunkSink, *, tenant: str, after: Seq = NOTHING_YET
    ) -> None:
        """Pushes the job's chunks into `sink`, from seq `after` + 1 on, and returns after its last one. Works for any
        job of the tenant on any gateway, running or settled. Raises `NotFound` (no such job of this tenant),
        `LogExpired`, `StreamLost`, and what the sink raises."""
        ...

    async def logged(
        self, model: ModelName, job: JobId, *, tenant: str, after: Seq = NOTHING_YET, most: int | None = None
    ) -> list[LoggedChunk]:
        """Returns what the job's log has now from seq `after` + 1 on, in order, at most `most` chunks: a look that
        waits for no chunk and does not take the stream over from who follows it. A Redis that is away is waited for, up
        to half a minute. Raises `NotFound` (no such job of this tenant), `LogExpired` (the same, and `after` says that
        there was one), `StreamLost` (the log does not reach `after`), `Unavailable`."""
        ...

    def waiting(self, job: JobId) -> Waiting | None:
        """Returns how a followed job waits, as far as is known here; None if it does not (any more), or nobody knows
        yet."""
        ...

    async def cancel(self, model: ModelName, ids: list[JobId], *, tenant: str = "") -> Sequence[str]:
        """Stops the jobs (of this tenant, if given) wherever they are; settled or unknown ones are fine. The state of
        each, `missing` if the tenant has no such job; nothing if Redis did not answer."""
        ...

    async def leave(self, model: ModelName, ids: list[JobId]) -> None:
        """Tells that the reader here has gone: stops those jobs that nobody else reads, here or at another gateway."""
        ...
