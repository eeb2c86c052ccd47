"""The answer of one turn as it is written, whole or streamed, and stored at its end."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from millstream.common.errors import Cancelled
from millstream.gateway.apis.responses.store import StoredResponse, StoredResponses, failed_response, whole_response
from millstream.gateway.apis.responses.write import ResponseStream
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.admitted import AdmittedRequest
from millstream.gateway.requests.handler import Writers
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.background_tasks import BackgroundTasks

TurnStored = Callable[[], Awaitable[None]]


class Writing:
    """A turn being answered, and stored at its end. `turns` is None where nothing is to be kept. `settled` is called
    when the end is stored."""

    def __init__(
        self,
        turn: StoredResponse,
        turns: StoredResponses | None,
        background_tasks: BackgroundTasks,
        settled: TurnStored | None = None,
        *,
        resumable: bool,
        after: int = -1,
    ) -> None:
        self._turn = turn
        self._turns = turns
        self._background_tasks = background_tasks
        self._settled = settled
        self._resumable = resumable
        self._after = after
        self._stream: ResponseStream | None = None

    def answer(self) -> Writers:
        """Returns how the answer is written."""
        return Writers(whole=self._whole, stream=self._streamed, ended=self._ended)

    def _whole(self, head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
        self._turn.response = whole_response(head, self._turn.framed(), accumulators[0])
        return self._turn.response

    def _streamed(self, head: ResponseMeta) -> ResponseStream:
        self._stream = ResponseStream(head, self._turn.framed(), self._after)
        return self._stream

    async def _ended(self, admitted: AdmittedRequest, complete: bool) -> None:
        if self._stream is not None:
            self._turn.response = self._stream.response
        if self._turn.under_way and self._resumable:
            return  # it goes on; the next look at it will find its end
        if self._turn.under_way:
            self._turn.response = failed_response(self._turn, Cancelled("The client left."))
        if self._turns is not None:
            store = partial(self._put, self._turns, anew=not admitted.repeated)
            await self._background_tasks.promise(store, f"store {self._turn.id}")

    async def _put(self, turns: StoredResponses, *, anew: bool) -> None:
        await turns.put(self._turn, anew=anew, always=True)
        if self._settled is not None:
            await self._settled()
