"""The spans that no worker writes, because no worker ended the job: its workers were lost once too often, its deadline
passed, or nobody wanted it any more while it waited. Whoever followed the job writes them, after its client has been
answered."""

import asyncio
from collections.abc import Sequence

import structlog

from millstream.common.broker import jobs
from millstream.common.broker.connection.broker import Broker
from millstream.common.errors import Unavailable
from millstream.common.job import SETTLED, JobId, ModelName
from millstream.common.leases import lease_spans
from millstream.common.tracing.attempts import Outcome, TracedJob, traced_job
from millstream.common.tracing.span import SpanRecord, SpanWriter

MOST_NOTED = 1024  # jobs; those beyond are not looked at
NOBODYS = ":-"  # the end of the lease under which Redis itself settles a job

log = structlog.stdlib.get_logger(part="traces")


class UntoldEndings:
    """Looks at each job noted, in Redis."""

    def __init__(self, broker: Broker, writer: SpanWriter) -> None:
        self._broker = broker
        self._writer = writer
        self._noted: asyncio.Queue[tuple[ModelName, JobId]] = asyncio.Queue(MOST_NOTED)

    def note(self, model: ModelName, ids: Sequence[JobId]) -> None:
        """Notes jobs that ended without an answer, or were cancelled."""
        for id in ids:
            if not self._noted.full():
                self._noted.put_nowait((model, id))

    async def run(self) -> None:
        """Looks for ever; ends by cancellation only."""
        while True:
            model, id = await self._noted.get()
            try:
                await self._tell(model, id)
            except Unavailable as error:
                log.debug("ending_not_traced", job=id, error=error.message)
            except Exception:  # a hash that cannot be read is not worth a gateway
                log.exception("ending_not_traced", job=id)

    async def _tell(self, model: ModelName, id: JobId) -> None:
        for span in untold(model, id, await jobs.read(self._broker, model, id)):
            self._writer.write(span)


def untold(model: ModelName, id: JobId, fields: dict[str, str]) -> list[SpanRecord]:
    """Returns the spans of a job that no worker writes, from its hash; none of one that a worker ended, or that is not
    over."""
    if fields.get("state") not in SETTLED or not fields.get("lease", "").endswith(NOBODYS):
        return []
    if not fields["request"]:  # too large to be kept, and its trace's id with it
        return []
    leases = lease_spans(fields.get("leases", ""))
    submitted, settled = float(fields["submitted"]) / 1000, float(fields["settled"]) / 1000
    traced = traced_job(id, model, jobs.decode_request(fields["request"]), submitted, leases)
    if traced is None:
        return []
    return _untold(traced, fields["state"], settled)


def _untold(traced: TracedJob, state: str, settled: float) -> list[SpanRecord]:
    count = len(traced.leases)
    if count and traced.leases[-1].until is None:  # it ran until Redis ended it
        return traced.ended(count - 1, Outcome(state, settled, state, {"error.type": state}))
    lost = traced.lost(count)
    waited = settled > (traced.leases[-1].until or 0.0) if count else True
    return [*lost, traced.wait(count, settled)] if waited else lost
