"""Answers that are kept: their end is stored, and a background response's announced, whichever process dies
meanwhile."""

import structlog

from millstream.common.broker.records.pending import EndedResponse, Pending
from millstream.common.broker.records.unfinished import UnfinishedAnswer, UnfinishedAnswers
from millstream.common.errors import NotFound
from millstream.gateway.apis.chat.keeping import PromisedCompletions
from millstream.gateway.apis.responses.service import ResponseService
from millstream.gateway.apis.responses.store import StoredResponses
from millstream.gateway.background.batches.batch_worker import BackgroundContext
from millstream.gateway.records.completions import StoredCompletions

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


class KeptAnswers:
    """The answers of all tenants that are to be stored, and whose gateways did not live to do it."""

    def __init__(self, context: BackgroundContext, unfinished: UnfinishedAnswers) -> None:
        self._context = context
        self._unfinished = unfinished

    async def ended(self) -> list[UnfinishedAnswer]:
        """Returns the answers whose jobs are over and which are not stored yet."""
        return await self._unfinished.ended()

    async def store(self, answer: UnfinishedAnswer) -> None:
        """Stores the answer from its chunk log, if nobody has. Raises `Unavailable`."""
        if await (self._complete(answer) if answer.kind == "completion" else self._refresh(answer)):
            await self._unfinished.remove(answer)

    async def _complete(self, answer: UnfinishedAnswer) -> bool:
        context = self._context
        completions = StoredCompletions(context.store, answer.tenant, context.settings.stored_ttl)
        promised = PromisedCompletions(context.store, self._unfinished, completions, answer.tenant)
        return await promised.finish(context.cluster.queue, answer.id)

    async def _refresh(self, answer: UnfinishedAnswer) -> bool:
        context = self._context
        turns = StoredResponses(context.store, answer.tenant, context.settings.stored_ttl)
        turn = await turns.find(answer.id)
        if turn is None:
            return True  # deleted
        turn = await ResponseService(context.cluster.queue, turns, answer.tenant).refresh(turn)
        return not turn.under_way
