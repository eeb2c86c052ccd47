# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Hints to a worker: its control channel, and its inbox as a doorbell. Both are best effort: the replies of step and
beat carry cancellations for certain, and a worker claims at every beat anyway."""

from collections.abc import AsyncIterator
from typing import Literal

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import COMMAND_TIMEOUT, open_client, open_pipeline, redis_errors
from millstream.common.broker.connection.pubsub import subscribed
from millstream.common.job import JobId, ModelName, WorkerId

Verb = Literal["cancel", "preempt"]
BELL_BLOCK = 2.0  # seconds one blocking read lasts; below the socket's timeout


class Doorbell:
    """Blocks on a worker's inbox without consuming from it: only claim consumes."""

    def __init__(self, url: str, model: ModelName, worker: WorkerId) -> None:
        self._client = open_client(url, timeout=COMMAND_TIMEOUT + BELL_BLOCK)
        self._line = open_pipeline(self._client)
        self._inbox = keys.inbox(model, worker)

    async def ring(self) -> str:
        """Waits until the inbox holds something, at most `BELL_BLOCK` seconds; its first entry, empty if there is none.
        Raises `RedisAway`."""
        command = ("XREAD", "COUNT", 1, "BLOCK", int(BELL_BLOCK * 1000), "STREAMS", self._inbox, "0")
        async with redis_errors():
            found = await self._line.call(self._inbox, *command)
        return dict(found)[self._inbox][0][0] if found else ""

    async def aclose(self) -> None:
        await self._line.aclose()
        await self._client.aclose()


class ControlChannel:
    """A worker's subscription to its hints."""

    def __init__(self, url: str, worker: WorkerId) -> None:
        self._url = url
        self._channel = keys.control(worker)

    async def hints(self) -> AsyncIterator[tuple[Verb, JobId]]:
        """Yields jobs to cancel or to give back, as hinted. Raises `RedisAway` when the connection is lost."""
        async with subscribed(self._url, self._channel) as messages:
            while True:
                for message in await messages.next():
                    verb, _, job = (message or b"").decode(errors="replace").partition(" ")
                    if verb == "cancel" or verb == "preempt":
                        yield verb, JobId(job)
