"""The metadata with which every event and body of one request begins."""

from dataclasses import dataclass

from millstream.common.chunk import Start
from millstream.common.job import ModelName, Tier


@dataclass(slots=True)
class ResponseMeta:
    """The request as its answer names it. `fingerprint` is known from the first chunk on."""

    id: str
    created: int
    model: ModelName
    tier: Tier
    fingerprint: str | None = None

    def learn(self, start: Start) -> None:
        """Learns the worker's fingerprint from a job's first chunk."""
        self.fingerprint = start.fingerprint or self.fingerprint
