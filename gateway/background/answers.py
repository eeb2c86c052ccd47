"""Background responses: their end is stored and announced, whichever process dies meanwhile."""

import structlog

from millstream.common.broker.records.pending import EndedResponse, Pending
from millstream.common.errors import NotFound
from millstream.gateway.apis.responses.service import ResponseService
from millstream.gateway.apis.responses.store import StoredResponses
from millstream.gateway.background.batches.batch_worker import BackgroundContext

TOLD = ("completed", "failed", "cancelled", "incomplete")  # ends that there is an event for
log = structlog.stdlib.get_logger(part="responses")


class BackgroundResponses:
    """The background responses of all tenants."""

    def __init__(self, context: BackgroundContext, pending: Pending) -> None:
        self._context = context
        self._pending = pending

    async def ended(self) -> list[EndedResponse]:
        """Returns the responses whose jobs are over, to be stored."""
        return await self._pending.ended()

    async def store(self, response: EndedResponse) -> str | None:
        """Stores the end from the chunk log, if nobody has. Returns the event's kind, empty if there is nothing to
        announce; None if that is done, or could not be read now. Call `settle` when the event is on its way."""
        if not await self._pending.awaits(response.id):
            return None  # another process was first
        context = self._context
        turns = StoredResponses(context.store, response.tenant, context.settings.stored_ttl)
        try:
            turn = await turns.get(response.id)
        except NotFound:
            return ""  # deleted
        turn = await ResponseService(context.cluster.queue, turns, response.tenant).refresh(turn)
        status = str(turn.response["status"])
        return f"response.{status}" if status in TOLD else None

    async def settle(self, response: EndedResponse) -> None:
        """Marks a response as done, so that nobody looks at it again."""
        await self._pending.remove(response.id)
        log.info("background_response_over", response=response.id)
