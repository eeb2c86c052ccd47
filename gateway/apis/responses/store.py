"""Stored responses: a turn of a conversation, kept so that it can be read again, gone on with, and referred to."""

from typing import Any, cast

import msgspec

from millstream.common.chunk import Chunk, Start, ToolDelta
from millstream.common.errors import MillstreamError, NotFound
from millstream.common.job import ModelName, Tier
from millstream.common.request_id import parse_request_id
from millstream.gateway.apis.responses.response_object import Frame
from millstream.gateway.apis.responses.shape import Item
from millstream.gateway.apis.responses.write import ResponseFold
from millstream.gateway.records.store import Record, Store
from millstream.gateway.requests.accumulator import Fold
from millstream.gateway.requests.response_meta import Head

UNDER_WAY = ("queued", "in_progress")


class Turn(msgspec.Struct):
    """One response as it is kept. `input`: its own items as they are listed; `context`: all items up to its answer,
    as they came; `frame` rebuilds the response from its chunks while the log lives."""

    response: dict[str, Any]
    frame: dict[str, Any]
    input: list[dict[str, Any]]
    context: list[dict[str, Any]]
    model: str
    tier: Tier
    sealed: bool = False
    logprobs: bool = False

    @property
    def id(self) -> str:
        """The response's."""
        return str(self.response["id"])

    @property
    def under_way(self) -> bool:
        """Whether its end is not stored yet."""
        return self.response["status"] in UNDER_WAY

    def head(self) -> Head:
        """What a presenter begins with."""
        return Head(self.id, parse_request_id(self.id).created, ModelName(self.model), self.tier)

    def framed(self) -> Frame:
        """What the response repeats of its request."""
        return Frame(self.frame, self.sealed, self.logprobs)

    def history(self) -> list[Item]:
        """All items of the conversation, this turn's answer included, for the next turn."""
        return [Item.model_validate(item) for item in self.conversation()]

    def conversation(self) -> list[dict[str, Any]]:
        """The same, as they are stored."""
        return [*self.context, *self._output]

    def items(self) -> list[dict[str, Any]]:
        """This turn's own, as they are listed: its input and its output."""
        return [*self.input, *self._output]

    @property
    def _output(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self.response["output"])


class Turns:
    """A tenant's turns. Without a store nothing is kept, and every look-up says so."""

    def __init__(self, store: Store | None, tenant: str, ttl: float) -> None:
        self._store = store
        self._tenant = tenant
        self._ttl = ttl

    @property
    def kept(self) -> bool:
        """Whether there is a store at all."""
        return self._store is not None

    async def put(self, turn: Turn, *, anew: bool = False) -> None:
        """Keeps the turn; with `anew` only one that is kept already: a deleted one does not come back. Raises
        `Unavailable`."""
        if self._store is None:
            return
        record = Record(turn.id, parse_request_id(turn.id).created, msgspec.json.encode(turn))
        await self._store.put(self._tenant, "response", record, self._ttl, anew=anew)

    async def get(self, identity: str) -> Turn:
        """Raises `NotFound`."""
        return (await self.get_sized(identity))[0]

    async def get_sized(self, identity: str) -> tuple[Turn, int]:
        """The turn, and how many bytes the store has of it. Raises `NotFound`."""
        record = await self._record(identity)
        if record is None:
            raise NotFound(f"Response with id '{identity[:80]}' not found.", param="response_id")
        return msgspec.json.decode(record.body, type=Turn), len(record.body)

    async def find(self, identity: str) -> Turn | None:
        """None: never stored, expired, deleted, or another tenant's."""
        record = await self._record(identity)
        return msgspec.json.decode(record.body, type=Turn) if record else None

    async def _record(self, identity: str) -> Record | None:
        return await self._store.get(self._tenant, "response", identity) if self._store else None

    async def delete(self, identity: str) -> None:
        """Raises `NotFound`."""
        if self._store is None or not await self._store.delete(self._tenant, "response", identity):
            raise NotFound(f"Response with id '{identity[:80]}' not found.", param="response_id")


def whole_response(order_head: Head, frame: Frame, fold: Fold) -> dict[str, Any]:
    """A response from a job's fold: thoughts, then text, then calls, as models write them."""
    growing = ResponseFold(order_head, frame)
    calls = [ToolDelta(index, call.id, call.name, call.arguments) for index, call in enumerate(fold.calls)]
    growing.take(Chunk(start=Start(fold.usage.prompt)))
    growing.take(Chunk(reasoning=fold.reasoning, text=fold.text, logprobs=fold.logprobs, tools=calls))
    growing.take(Chunk(finish=fold.finish or "stop", usage=fold.usage))
    return growing.response


def failed_response(turn: Turn, error: MillstreamError) -> dict[str, Any]:
    """A response whose job failed, was cancelled, or left nothing to read."""
    growing = ResponseFold(turn.head(), turn.framed())
    growing.fail(error)
    return growing.response | {"output": turn.response["output"]}
