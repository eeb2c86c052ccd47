"""The leases that a job has had, as its hash tells them: each
`<lease> <last seq before it> <granted> <given up> <how>`, joined by commas."""

from dataclasses import dataclass

LOST, PREEMPTED = "lost", "preempted"


@dataclass(frozen=True, slots=True)
class LeaseSpan:
    """One lease of a job: what the log had before it, and from when to when (Redis time, seconds) its worker held the
    job; None: it holds it still, or the job ended with it. `lost`: the worker did not give the job up itself, it was
    taken from one that died or was cut off. `preempted`: it gave the job up because it was asked to."""

    lease: str
    after: int
    since: float
    until: float | None = None
    lost: bool = False
    preempted: bool = False

    @property
    def worker(self) -> str:
        """Returns the worker that held it."""
        return self.lease.partition(":")[2]


def lease_spans(text: str) -> list[LeaseSpan]:
    """Returns the leases that the field `leases` of a job's hash tells, the oldest first."""
    spans = (entry.split(" ") for entry in text.split(",") if entry)
    return [_span(*span) for span in spans]


def _span(lease: str, after: str, since: str, until: str = "", *how: str) -> LeaseSpan:
    ended = float(until) / 1000 if until else None
    return LeaseSpan(lease, int(after), float(since) / 1000, ended, LOST in how, PREEMPTED in how)
