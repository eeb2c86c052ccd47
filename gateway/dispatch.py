"""From a checked request to its chunks: submit jobs, follow their chunk logs, cancel them.

`gateway.queue.QueueDispatch` is the real one; tests of the HTTP surface have their own at the edge.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from common.chunk import NOTHING_YET, Chunk, Seq
from common.job import JobId, JobRequest, ModelName, Tier


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
    affinity: str = ""  # session or prefix key for routing


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a submission. `duplicate`: the idempotency key is known; `jobs` are the earlier request's."""

    outcome: Literal["routed", "queued", "duplicate"]
    jobs: list[JobId]
    position: int = 0  # jobs ahead in the backlog
    wait: float | None = None  # estimated seconds until a slot frees; None: not known


class Dispatch(Protocol):
    """The gateway's way to the queue."""

    async def submit(self, submission: Submission) -> Admission:
        """Raises `ModelNotFound`, `Overloaded` (with `retry_after`), `IdempotencyConflict`, `Unavailable`."""
        ...

    def follow(
        self, model: ModelName, job: JobId, *, tenant: str, after: Seq = NOTHING_YET
    ) -> AsyncIterator[list[tuple[Seq, Chunk]]]:
        """The job's chunks from seq `after` + 1 to its last one, in order, without holes or repeats; each item is all
        that is there now (at least one). An empty list is a sign of life: nothing new for a keep-alive interval.
        Works for any job of the tenant on any gateway, running or settled.
        Raises `NotFound` (no such job of this tenant), `LogExpired`, `StreamLost`."""
        ...

    async def cancel(self, model: ModelName, ids: list[JobId], *, tenant: str = "") -> None:
        """Stop the jobs (of this tenant, if given) wherever they are; settled or unknown ones are fine."""
        ...
