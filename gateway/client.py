"""The client's side of a request: work for it only as long as it is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from common.errors import Cancelled

T = TypeVar("T")


class ClientGone(Cancelled):
    """The client closed the connection before its answer was complete."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result. Cancels it and raises `ClientGone` as soon as the client leaves. The body must have been
    read: the next message can then only be the disconnect."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone("The client closed the connection.")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
