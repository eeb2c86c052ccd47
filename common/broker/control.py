# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Hints to a worker: its control channel, and its inbox as a doorbell. Both are best effort: the replies of step and
beat carry cancellations for certain, and a worker claims at every beat anyway."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Literal, cast

from common.broker import keys
from common.broker.connect import COMMAND_TIMEOUT, open_client, open_listener, redis_errors
from common.job import JobId, ModelName, WorkerId

Verb = Literal["cancel", "preempt"]
BELL_BLOCK = 2.0  # seconds one blocking read lasts; below the socket's timeout


class Doorbell:
    """Blocks on a worker's inbox without consuming from it: only claim consumes."""

    def __init__(self, url: str, model: ModelName, worker: WorkerId) -> None:
        self._client = open_client(url, timeout=COMMAND_TIMEOUT + BELL_BLOCK)
        self._inbox = keys.inbox(model, worker)

    async def ring(self) -> str:
        """Wait until the inbox holds something, at most `BELL_BLOCK` seconds; its first entry, empty if there is none.
        Raises `RedisAway`."""
        async with redis_errors():
            read = self._client.xread({self._inbox: "0"}, count=1, block=int(BELL_BLOCK * 1000))
            found = await cast(Awaitable[list[tuple[str, list[tuple[str, Any]]]]], read)
        return found[0][1][0][0] if found else ""

    async def aclose(self) -> None:
        await self._client.aclose()


class ControlChannel:
    """A worker's subscription to its hints."""

    def __init__(self, url: str, worker: WorkerId) -> None:
        self._url = url
        self._channel = keys.control(worker)

    async def hints(self) -> AsyncIterator[tuple[Verb, JobId]]:
        """Jobs to cancel or to give back, as hinted. Raises `RedisAway` when the connection is lost."""
        async with redis_errors(), open_listener(self._url) as client, client.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            while True:
                message: dict[str, Any] | None = await pubsub.get_message(timeout=BELL_BLOCK)
                if message is None:
                    await pubsub.ping()
                elif message["type"] == "message":
                    verb, _, job = str(message["data"]).partition(" ")
                    if verb == "cancel" or verb == "preempt":
                        yield verb, JobId(job)
