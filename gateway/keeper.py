"""Brings stored responses to their end: at once if this gateway sees it, on the next look if another one did."""

import asyncio

import structlog

from common.chunk import NOTHING_YET
from common.errors import Cancelled, JobFailed, LogExpired, MillstreamError, NotFound, Unavailable, from_failure
from common.job import ModelName
from gateway.flow import Flow
from gateway.following import BUFFER
from gateway.present.responses import ResponseFold
from gateway.request_id import parse_request_id
from gateway.ticket import Desk, Ticket
from gateway.turns import Turn, Turns, failed_response

GLANCE = 0.3  # seconds to wait for what is in the log now
log = structlog.stdlib.get_logger(part="responses")


def turn_ticket(turn: Turn, tenant: str) -> Ticket:
    """The turn's job, to be followed from its beginning."""
    identity = parse_request_id(turn.id)
    return Ticket(identity, ModelName(turn.model), tenant, turn.tier, identity.jobs(), [NOTHING_YET])


class Keeper:
    """Follows one tenant's turns in the chunk log and stores what became of them."""

    def __init__(self, desk: Desk, turns: Turns, tenant: str) -> None:
        self._desk = desk
        self._turns = turns
        self._tenant = tenant

    async def refresh(self, turn: Turn) -> Turn:
        """The turn as the log has it now; its end is stored."""
        if turn.under_way:
            await self._read(turn, wait=GLANCE)
        return turn

    async def finish(self, turn: Turn) -> None:
        """Follows the turn until its end, which is stored. For a background response: nobody else may be reading."""
        try:
            await self._read(turn, wait=None)
        except Unavailable as error:
            log.warning("response not stored yet", response=turn.id, error=error.message)  # the next look does it

    async def cancel(self, turn: Turn) -> Turn:
        """Stops the turn's job, if it is still running."""
        await self.refresh(turn)
        if turn.under_way:
            await self._desk.give_up(turn_ticket(turn, self._tenant))
            turn.response = failed_response(turn, Cancelled("The response was cancelled."))
            await self._turns.put(turn, anew=True)
        return turn

    async def delete(self, turn: Turn) -> None:
        """Forgets the turn; a background one, which nobody can read any more, is stopped. Raises `NotFound`."""
        await self._turns.delete(turn.id)
        if turn.under_way and turn.response.get("background"):
            await self._desk.give_up(turn_ticket(turn, self._tenant))

    async def _read(self, turn: Turn, wait: float | None) -> None:
        growing = ResponseFold(turn.head(), turn.framed())
        flow = self._desk.follow(turn_ticket(turn, self._tenant), [NOTHING_YET])
        try:
            await _fold(flow, growing, wait)
            turn.response = growing.response
        except (NotFound, LogExpired):
            turn.response = failed_response(turn, JobFailed("The response's chunks expired before it was stored."))
        except Unavailable:
            raise
        except MillstreamError as error:
            growing.fail(error)
            turn.response = growing.response
        finally:
            await flow.aclose()
        if not turn.under_way:
            await self._turns.put(turn, anew=True)


async def _fold(flow: Flow, growing: ResponseFold, wait: float | None) -> None:
    """Everything until the end; with `wait` (seconds) what the log has now, however fast it grows. Raises the job's
    failure."""
    items = flow.items()
    while True:
        try:
            async with asyncio.timeout(wait):
                item = await anext(items, None)
        except TimeoutError:
            return
        if item is None:
            return
        for _, chunk in item[1]:
            if chunk.error is not None:
                raise from_failure(chunk.error)
            growing.take(chunk)
        if wait is not None and len(item[1]) < BUFFER:
            return  # a full load is a part of a long log
