"""The leases that a job has had, as its hash tells them: each `<lease> <last seq before it> <granted> <given up> lost`,
joined by commas."""

from dataclasses import dataclass

LOST = "lost"


@dataclass(frozen=True, slots=True)
class LeaseSpan:
    """One lease of a job: what the log had before it, and from when to when (Redis time, seconds) its worker held the
    job; None: it holds it still, or the job ended with it. `lost`: the worker did not give the job up itself, it was
    taken from one that died or was cut off."""

    lease: str
    after: int
    since: float
    until: float | None = None
    lost: bool = False

    @property
    def worker(self) -> str:
        """Returns the worker that held it."""
        return self.lease.partition(":")[2]


def lease_spans(text: str) -> list[LeaseSpan]:
    """Returns the leases that the field `leases` of a job's hash tells, the oldest first."""
    spans = (entry.split(" ") for entry in text.split(",") if entry)
    return [
        LeaseSpan(lease, int(after), float(since) / 1000, float(rest[0]) / 1000 if rest else None, LOST in rest[1:])
        for lease, after, since, *rest in spans
    ]
