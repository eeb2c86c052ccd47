"""The client's side of a request: work for it only as long as it is there."""

import asyncio
from types import TracebackType

from starlette.requests import Request

from millstream.common.errors import Cancelled, MillstreamError
from millstream.gateway.connection.outlet import Outlet


class ClientGone(Cancelled):
    """The client closed the connection before its answer was complete."""


class ClientWatch:
    """A watch for the client that waits for an answer. The work inside `with client` ends with `ClientGone` as soon as
    the client leaves. The body must have been read: the next message can then only be the disconnect. One task listens
    for it, from the first `with` until `release`; the work stays where it is, in the request's own task."""

    def __init__(self, request: Request, served: "set[ClientWatch]") -> None:
        """Begins without listening. `served`: the set in which it is found as long as it is listened for."""
        self._scope = request.scope
        self.comes_back = _comes_back(request)  # it knows how to go on with a stream that breaks off, and where
        self._receive = request.receive
        self._served = served
        self._listening: asyncio.Task[None] | None = None
        self._task: asyncio.Task[object] | None = None  # the request's own
        self._working = False  # whether it is inside `with`
        self._cancelled_before = 0
        self._reason: MillstreamError | None = None

    def __enter__(self) -> None:
        if self._reason is not None:
            raise self._reason  # it left while nothing was done for it
        task = self._task = self._task or asyncio.current_task()
        assert task is not None
        self._working, self._cancelled_before = True, task.cancelling()
        if self._listening is None:
            self._served.add(self)
            self._listening = asyncio.create_task(self._listen())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._working = False
        if self._reason is None or self._task is None:
            return
        if self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise self._reason from error

    def interrupt(self, reason: MillstreamError) -> None:
        """Ends what is done for the client: it raises `reason`. The first reason counts."""
        if self._reason is None:
            self._reason = reason
            if self._working and self._task is not None:
                self._task.cancel()

    def outlet(self) -> Outlet:
        """Returns the client's socket, to be written to once the response's head has been sent."""
        return Outlet(self._scope)

    def release(self) -> None:
        """Ends the watch: nothing more will be done for the client."""
        self._served.discard(self)
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientGone("The client closed the connection."))


def _comes_back(request: Request) -> bool:
    """Tells whether the client has said that it comes back, or has done it before. An `Idempotency-Key` alone says
    less: whoever asks through an SDK has one for the retries, but the SDK goes on with no stream by itself."""
    asked = request.headers.get("x-millstream-resumable", "").lower()
    return asked in ("true", "1") or (not asked and "last-event-id" in request.headers)
