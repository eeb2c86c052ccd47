"""Brings stored responses to their end: at once if this gateway sees it, on the next look if another one did."""

from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from millstream.common.chunk import NOTHING_YET, Chunk
from millstream.common.errors import (
    Cancelled,
    JobFailed,
    LogExpired,
    MillstreamError,
    NotFound,
    Unavailable,
    from_failure,
)
from millstream.common.job import ModelName
from millstream.common.request_id import parse_request_id
from millstream.gateway.apis.responses.store import StoredResponse, StoredResponses, failed_response
from millstream.gateway.apis.responses.write import ResponseFold
from millstream.gateway.queue.client import QueueClient
from millstream.gateway.queue.sink import CallbackSink
from millstream.gateway.requests.admitted import AdmittedRequest, follow
from millstream.gateway.services.background_tasks import until_done

TakeChunk = Callable[[Chunk], None]
HandOver = Callable[[AdmittedRequest, TakeChunk], Awaitable[None]]
log = structlog.stdlib.get_logger(part="responses")


def admitted_response(turn: StoredResponse, tenant: str) -> AdmittedRequest:
    """Returns the turn's job, to be followed from its beginning."""
    identity = parse_request_id(turn.id)
    return AdmittedRequest(identity, ModelName(turn.model), tenant, turn.tier, identity.jobs(), [NOTHING_YET])


class ResponseService:
    """Follows one tenant's turns in the chunk log and stores what became of them."""

    def __init__(self, queue: QueueClient, turns: StoredResponses, tenant: str) -> None:
        self._queue = queue
        self._turns = turns
        self._tenant = tenant

    async def read(self, identity: str) -> StoredResponse:
        """Returns the turn as it is now: a client may have read its end before it was stored. Raises `NotFound`."""
        return await self.refresh(await self._turns.get(identity))

    async def read_sized(self, identity: str) -> tuple[StoredResponse, int]:
        """Returns the turn as it is now, and how many bytes the store has of it. Raises `NotFound`."""
        turn, size = await self._turns.get_sized(identity)
        return await self.refresh(turn), size

    async def refresh(self, turn: StoredResponse) -> StoredResponse:
        """Returns the turn as the log has it now, and stores its end. A log that is lost proves no failure: the gateway
        that wrote the answer may have stored it meanwhile."""
        if not turn.under_way:
            return turn
        await self._read(turn, self._so_far)
        if turn.response["status"] == "failed":
            stored = await self._turns.find(turn.id)
            if stored is not None and not stored.under_way:
                return stored
        await self._keep(turn)
        return turn

    async def finish(self, turn: StoredResponse) -> None:
        """Follows the turn until its end, which is stored. For a background response: nobody else may be reading."""
        try:
            await self._read(turn, self._until_the_end)
            await until_done(partial(self._keep, turn))
        except Unavailable as error:
            log.warning("response_not_stored", response=turn.id, error=error.message)  # the next look does it

    async def cancel(self, turn: StoredResponse) -> StoredResponse:
        """Stops the turn's job, if it is still running."""
        await self.refresh(turn)
        if turn.under_way:
            await self._stop(turn)
            turn.response = failed_response(turn, Cancelled("The response was cancelled."))
            await self._turns.put(turn, anew=True)
        return turn

    async def delete(self, identity: str) -> None:
        """Forgets the turn; a background one, which nobody can read any more, is stopped. Raises `NotFound`."""
        turn = await self._turns.get(identity)
        await self._turns.delete(identity)
        if turn.under_way and turn.response.get("background"):
            await self._stop(turn)

    async def _stop(self, turn: StoredResponse) -> None:
        """Cancels the turn's job, whoever waits for it."""
        admitted = admitted_response(turn, self._tenant)
        await self._queue.cancel(admitted.model, admitted.jobs)

    async def _so_far(self, admitted: AdmittedRequest, take: TakeChunk) -> None:
        """Hands over what the log has now. Another reader of the job goes on reading, and nobody waits here for the
        next chunk."""
        for _, chunk in await self._queue.logged(admitted.model, admitted.jobs[0], tenant=admitted.tenant):
            take(chunk)

    async def _until_the_end(self, admitted: AdmittedRequest, take: TakeChunk) -> None:
        """Hands over all chunks, as they come."""
        await follow(self._queue, admitted, [CallbackSink(take)])

    async def _read(self, turn: StoredResponse, hand_over: HandOver) -> None:
        growing = ResponseFold(turn.head(), turn.framed())

        def take(chunk: Chunk) -> None:
            if chunk.error is not None:
                raise from_failure(chunk.error)
            growing.take(chunk)

        try:
            await hand_over(admitted_response(turn, self._tenant), take)
            turn.response = growing.response
        except (NotFound, LogExpired):
            turn.response = failed_response(turn, JobFailed("The response's chunks expired before it was stored."))
        except Unavailable:
            raise
        except MillstreamError as error:
            growing.fail(error)
            turn.response = growing.response

    async def _keep(self, turn: StoredResponse) -> None:
        """Stores the turn's end, if it has come."""
        if not turn.under_way:
            await self._turns.put(turn, anew=True)
