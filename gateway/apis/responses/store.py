"""Stored responses: a turn of a conversation, kept so that it can be read again, gone on with, and referred to."""

from typing import Any, cast

import msgspec

from millstream.common.chunk import Chunk, Start, ToolDelta
from millstream.common.errors import MillstreamError, NotFound
from millstream.common.job import ModelName, Tier
from millstream.common.request_id import parse_request_id
from millstream.gateway.apis.responses.response_object import ResponseFrame
from millstream.gateway.apis.responses.shape import ResponseItem
from millstream.gateway.apis.responses.write import ResponseFold
from millstream.gateway.records.store import Record, RecordStore
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.response_meta import ResponseMeta

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

    @property
    def id(self) -> str:
        """The response's."""
        return str(self.response["id"])

    @property
    def under_way(self) -> bool:
        """Whether its end is not stored yet."""
        return self.response["status"] in UNDER_WAY

    def head(self) -> ResponseMeta:
        """What a presenter begins with."""
        return ResponseMeta(self.id, parse_request_id(self.id).created, ModelName(self.model), self.tier)

    def framed(self) -> ResponseFrame:
        """What the response repeats of its request."""
        return ResponseFrame(self.frame, self.sealed, self.logprobs)

    def history(self) -> list[ResponseItem]:
        """All items of the conversation, this turn's answer included, for the next turn."""
        return [ResponseItem.model_validate(item) for item in [*self.context, *self._output]]

    def items(self) -> list[dict[str, Any]]:
        """This turn's own, as they are listed: its input and its output."""
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
        """Whether there is a store at all."""
        return self._store is not None

    async def put(self, turn: StoredResponse, *, anew: bool = False, always: bool = False) -> None:
        """Keeps the turn; with `anew` only one that is kept already: a deleted one does not come back. One that is new
        needs room, unless it is kept `always`: then its answer is there. Raises `QuotaExceeded`, `Unavailable`."""
        if self._store is None:
            return
        record = Record(turn.id, parse_request_id(turn.id).created, msgspec.json.encode(turn))
        await self._store.put(self._tenant, "response", record, self._ttl, anew=anew, always=always)

    async def get(self, identity: str) -> StoredResponse:
        """Raises `NotFound`."""
        turn = await self.find(identity)
        if turn is None:
            raise NotFound(f"Response with id '{identity[:80]}' not found.", param="response_id")
        return turn

    async def find(self, identity: str) -> StoredResponse | None:
        """None: never stored, expired, deleted, or another tenant's."""
        record = await self._store.get(self._tenant, "response", identity) if self._store else None
        return msgspec.json.decode(record.body, type=StoredResponse) if record else None

    async def delete(self, identity: str) -> None:
        """Raises `NotFound`."""
        if self._store is None or not await self._store.delete(self._tenant, "response", identity):
            raise NotFound(f"Response with id '{identity[:80]}' not found.", param="response_id")


def whole_response(order_head: ResponseMeta, frame: ResponseFrame, accumulator: Accumulator) -> dict[str, Any]:
    """A response from a job's fold: thoughts, then text, then calls, as models write them."""
    growing = ResponseFold(order_head, frame)
    calls = [ToolDelta(index, call.id, call.name, call.arguments) for index, call in enumerate(accumulator.calls)]
    growing.take(Chunk(start=Start(accumulator.usage.prompt)))
    growing.take(
        Chunk(reasoning=accumulator.reasoning, text=accumulator.text, logprobs=accumulator.logprobs, tools=calls)
    )
    growing.take(Chunk(finish=accumulator.finish or "stop", usage=accumulator.usage))
    return growing.response


def failed_response(turn: StoredResponse, error: MillstreamError) -> dict[str, Any]:
    """A response whose job failed, was cancelled, or left nothing to read."""
    growing = ResponseFold(turn.head(), turn.framed())
    growing.fail(error)
    return growing.response | {"output": turn.response["output"]}
