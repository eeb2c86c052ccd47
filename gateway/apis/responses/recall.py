"""Reads what a turn refers to: the response before it, and single items of any stored response."""

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from millstream.common.errors import BadRequest, NotFound
from millstream.gateway.apis.responses.input.items import Item
from millstream.gateway.apis.responses.service import ResponseService
from millstream.gateway.apis.responses.shape import read_item
from millstream.gateway.apis.responses.store import StoredResponse
from millstream.gateway.apis.shared.shapes.base import MESSAGES
from millstream.gateway.errors.table import FieldError
from millstream.gateway.records.conversations import Conversations

MOST_TURNS = 1024  # looked up for one request
RECORD = 4  # a stored turn repeats itself (its own input, the conversation, the answer), so it may be so much larger


@dataclass(slots=True)
class Remembered:
    """One turn, read once; its items as far as they have been asked for."""

    items: dict[str, dict[str, Any]]
    made: dict[str, tuple[Item, int]] = field(default_factory=dict[str, tuple[Item, int]])

    def item(self, identity: str) -> tuple[Item, int] | None:
        """Returns the item with the number of its bytes as JSON, or `None` if the turn has no such item."""
        if identity not in self.made and identity in self.items:
            found = self.items[identity]
            self.made[identity] = read_item(found), len(msgspec.json.encode(found))
        return self.made.get(identity)


class Recall:
    """Reads what one request refers to. A body of some bytes can refer to one large item thousands of times, so what
    it refers to is bounded as if the client had sent it."""

    def __init__(self, response_service: ResponseService, most: int) -> None:
        """`most`: bytes that a body may have."""
        self._response_service = response_service
        self._most = most
        self._left = most  # bytes that may still be referred to
        self._unread = RECORD * most  # bytes that may still be read from the store
        self._turns: dict[str, Remembered | None] = {}

    async def previous(self, identity: str | None) -> list[Item]:
        """Returns the conversation so far. Raises `BadRequest` if that turn is unknown, not over, or too large."""
        if identity is None:
            return []
        try:
            turn = await self._read(identity, "previous_response_id")
        except NotFound as error:
            message = f"Previous response with id '{identity[:80]}' not found."
            code = "previous_response_not_found"
            raise FieldError(message, param="previous_response_id", wire_code=code) from error
        if turn.under_way:
            message = f"Previous response '{identity}' is still being generated."
            raise BadRequest(message, param="previous_response_id")
        self._take(len(msgspec.json.encode(turn.all_items())), "previous_response_id")
        return turn.history()

    async def conversation(self, identity: str | None, conversations: Conversations | None) -> list[Item]:
        """Returns the items of a conversation. Raises `NotFound`, and `BadRequest` if it is too large."""
        if identity is None:
            return []
        if conversations is None:
            raise BadRequest("This gateway keeps no conversations.", param="conversation")
        await conversations.get(identity)
        items: list[Item] = []
        async with aclosing(conversations.walk(identity)) as walk:
            async for item, size in walk:
                self._take(size, "conversation")
                items.append(read_item(item))
                if len(items) > MESSAGES:
                    raise _too_much("conversation", f"{MESSAGES} items")
        return items

    async def referred(self, items: list[Item]) -> list[Item]:
        """The items, those that only refer to one of a stored turn replaced by it. Raises `NotFound`, `BadRequest`."""
        return [item if item.type != "item_reference" else await self._referred(item.id or "") for item in items]

    async def _referred(self, identity: str) -> Item:
        """An item's id holds its response's, whatever the item is."""
        turn = await self._remembered(f"resp_{identity.partition('_')[2][:32]}")
        found = turn.item(identity) if turn else None
        if found is None:
            kept = "Items are kept with their response, unless its `store` was false."
            raise NotFound(f"Item with id '{identity[:80]}' not found. {kept}", param="input")
        self._take(found[1], "input")
        return found[0]

    async def _remembered(self, identity: str) -> Remembered | None:
        if identity not in self._turns:
            if len(self._turns) == MOST_TURNS:
                raise _too_much("input", f"{MOST_TURNS} earlier responses")
            try:
                turn = await self._read(identity, "input")
                self._turns[identity] = Remembered({str(item["id"]): item for item in turn.items()})
            except NotFound:
                self._turns[identity] = None
        return self._turns[identity]

    async def _read(self, identity: str, param: str) -> StoredResponse:
        turn, size = await self._response_service.read_sized(identity)
        self._unread -= size
        if self._unread < 0:
            raise _too_much(param, f"{RECORD * self._most} bytes of stored responses")
        return turn

    def _take(self, size: int, param: str) -> None:
        self._left -= size
        if self._left < 0:
            raise _too_much(param, f"{self._most} bytes of earlier turns, each counted as often as it is referred to,")


def _too_much(param: str, most: str) -> FieldError:
    message = f"Invalid '{param}': it refers to too much. At most {most} are accepted in one request."
    return FieldError(message, param=param, wire_code="referred_too_large")
