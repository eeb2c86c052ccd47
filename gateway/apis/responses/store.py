"""Stored responses: a turn of a conversation, kept so that it can be read again, gone on with, and referred to."""

from math import inf
from typing import Any, cast

import msgspec

from millstream.common.chunk import Chunk, Start, ToolDelta
from millstream.common.errors import MillstreamError, NotFound
from millstream.common.job import ModelName, Tier
from millstream.common.request_id import parse_request_id
from millstream.gateway.apis.responses.input.items import Item
from millstream.gateway.apis.responses.response_object import ResponseFrame
from millstream.gateway.apis.responses.shape import read_item
from millstream.gateway.apis.responses.write import ResponseFold
from millstream.gateway.records.conversations import Conversations
from millstream.gateway.records.lost import missing
from millstream.gateway.records.store import Record, RecordStore
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.response_meta import ResponseMeta

ANSWERED = ("completed", "incomplete")
UNDER_WAY = ("queued", "in_progress")


class StoredResponse(msgspec.Struct):
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
    conversation: str = ""  # to which its items are added at its end
    kept: bool = True  # false: only for the conversation's sake

    @property
    def answered(self) -> bool:
        """Tells whether it has an answer, if a cut one."""
        return self.response["status"] in ANSWERED

    @property
    def id(self) -> str:
        """Returns the response's id."""
        return str(self.response["id"])

    @property
    def under_way(self) -> bool:
        """Tells whether the end of the response is not stored yet."""
        return self.response["status"] in UNDER_WAY

    def head(self) -> ResponseMeta:
        """Returns the metadata with which a presenter begins."""
        return ResponseMeta(self.id, parse_request_id(self.id).created, ModelName(self.model), self.tier)

    def framed(self) -> ResponseFrame:
        """Returns the part of the request that the response repeats."""
        return ResponseFrame(self.frame, self.sealed, self.logprobs)

    def history(self) -> list[Item]:
        """Returns all items of the conversation, this turn's answer included, for the next turn."""
        return [read_item(item) for item in self.all_items()]

    def all_items(self) -> list[dict[str, Any]]:
        """Returns all items of the conversation, this turn's answer included, as they are stored."""
        return [*self.context, *self._output]

    def items(self) -> list[dict[str, Any]]:
        """Returns this turn's own items, as they are listed: its input and its output."""
        return [*self.input, *self._output]

    @property
    def _output(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self.response["output"])


class StoredResponses:
    """A tenant's turns. Without a store nothing is kept, and every look-up says so."""

    def __init__(self, store: RecordStore | None, tenant: str, ttl: float) -> None:
        self._store = store
        self._tenant = tenant
        self._ttl = ttl

    @property
    def kept(self) -> bool:
        """Tells whether there is a store at all."""
        return self._store is not None

    async def put(self, turn: StoredResponse, *, anew: bool = False, always: bool = False) -> None:
        """Keeps the turn, and adds what it said to its conversation; with `anew` only one that is kept already: a
        deleted one does not come back. One that is new needs room, unless it is kept `always`: then its answer is
        there. Raises `QuotaExceeded`, `Unavailable`."""
        if self._store is None:
            return
        if turn.kept:
            record = Record(turn.id, parse_request_id(turn.id).created, msgspec.json.encode(turn))
            await self._store.put(self._tenant, "response", record, self._ttl, anew=anew, always=always)
        if turn.conversation and turn.answered:
            conversations = Conversations(self._store, self._tenant, self._ttl)
            await conversations.add(turn.conversation, turn.items(), always=True)

    async def get(self, identity: str) -> StoredResponse:
        """Returns the stored response. Raises `NotFound`."""
        return (await self.get_sized(identity))[0]

    async def get_sized(self, identity: str) -> tuple[StoredResponse, int]:
        """Returns the turn, and how many bytes the store has of it. Raises `NotFound`."""
        record = await self._record(identity)
        if record is None:
            raise await self._unknown(identity)
        return msgspec.json.decode(record.body, type=StoredResponse), len(record.body)

    async def find(self, identity: str) -> StoredResponse | None:
        """Returns the stored response; None if it was never stored, has expired, was deleted, or is another
        tenant's."""
        record = await self._record(identity)
        return msgspec.json.decode(record.body, type=StoredResponse) if record else None

    async def _record(self, identity: str) -> Record | None:
        return await self._store.get(self._tenant, "response", identity) if self._store else None

    async def delete(self, identity: str) -> None:
        """Deletes the stored response. Raises `NotFound`."""
        if self._store is None or not await self._store.delete(self._tenant, "response", identity):
            raise await self._unknown(identity)

    async def _unknown(self, identity: str) -> NotFound:
        uptime = await self._store.uptime(self._tenant) if self._store else inf
        return missing(f"Response with id '{identity[:80]}' not found", "response_id", identity, uptime)


def whole_response(order_head: ResponseMeta, frame: ResponseFrame, accumulator: Accumulator) -> dict[str, Any]:
    """Returns a response made of a job's accumulated answer: thoughts, then text, then calls, as models write them."""
    growing = ResponseFold(order_head, frame)
    calls = [ToolDelta(index, call.id, call.name, call.arguments) for index, call in enumerate(accumulator.calls)]
    growing.take(Chunk(start=Start(accumulator.usage.prompt)))
    growing.take(
        Chunk(reasoning=accumulator.reasoning, text=accumulator.text, logprobs=accumulator.logprobs, tools=calls)
    )
    growing.take(Chunk(finish=accumulator.finish or "stop", usage=accumulator.usage, ended=accumulator.ended))
    return growing.response


def failed_response(turn: StoredResponse, error: MillstreamError) -> dict[str, Any]:
    """Returns a response whose job failed, was cancelled, or left nothing to read."""
    growing = ResponseFold(turn.head(), turn.framed())
    growing.fail(error)
    return growing.response | {"output": turn.response["output"]}
