"""The promise that a turn's end will be stored, whatever becomes of the gateway that answers it."""

from millstream.common.broker.records.unfinished import UnfinishedAnswer
from millstream.common.errors import MillstreamError
from millstream.gateway.apis.responses.store import StoredResponse, StoredResponses
from millstream.gateway.queue.client import Submission
from millstream.gateway.requests.admitted import AdmittedRequest
from millstream.gateway.services.cluster import ClusterServices


class TurnPromise:
    """One turn's promise. `seconds`: how long anything of its job is left."""

    def __init__(self, turn: StoredResponse, submission: Submission, cluster: ClusterServices, seconds: float) -> None:
        self._turn = turn
        self._submission = submission
        self._cluster = cluster
        self._seconds = seconds

    async def make(self, turns: StoredResponses, admitted: AdmittedRequest) -> None:
        """Keeps the turn as it begins, before its client hears of it. What cannot be kept is not computed either:
        raises `QuotaExceeded`, `Unavailable`."""
        try:
            await turns.put(self._turn)
            await self._note()
        except MillstreamError:
            await self._cluster.queue.cancel(admitted.model, admitted.jobs)
            raise

    async def _note(self) -> None:
        """The end of a background response is announced as well, so it has a note of its own."""
        submission, cluster = self._submission, self._cluster
        if self._turn.response["background"]:
            if cluster.pending is not None:
                await cluster.pending.add(self._turn.id, submission.tenant, submission.model)
        elif cluster.unfinished is not None:
            await cluster.unfinished.note(self._unfinished, self._seconds)

    async def kept(self) -> None:
        """The turn's end is stored."""
        if self._cluster.unfinished is not None and not self._turn.response["background"]:
            await self._cluster.unfinished.remove(self._unfinished)

    @property
    def _unfinished(self) -> UnfinishedAnswer:
        return UnfinishedAnswer("response", self._turn.id, self._submission.tenant, self._submission.model)
