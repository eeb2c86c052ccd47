# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Reading chunk logs, and the frames channel that brings their news."""

from collections.abc import AsyncIterator, Awaitable
from typing import cast

import msgspec
import structlog

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.connection.pubsub import subscribed
from millstream.common.chunk import Seq
from millstream.common.job import GatewayId, JobId, Lease, ModelName

Frame = tuple[JobId, Lease, Seq, msgspec.Raw]
decode_frames = msgspec.json.Decoder(list[tuple[str, str, int, msgspec.Raw]]).decode
log = structlog.stdlib.get_logger(part="frames")
PAGE = 512  # chunks read from a log at once


async def read_log(
    broker: Broker, model: ModelName, job: JobId, after: Seq, most: int = PAGE
) -> list[tuple[Seq, bytes]]:
    """Returns up to a page of a job's chunks from seq `after` + 1 on, as JSON; empty at the end of the log."""
    async with redis_errors():
        command = broker.of(model).redis.xrange(keys.chunks(model, job), min=f"0-{after + 1}", count=most)
        entries = await cast(Awaitable[list[tuple[str, dict[str, str]]]], command)
    return [(Seq(int(entry.partition("-")[2])), fields["c"].encode()) for entry, fields in entries]


def _frames(message: bytes) -> list[Frame]:
    """Returns the frames of a message; none for what no worker can have sent: what it may have stood for is in the
    log."""
    try:
        return cast(list[Frame], decode_frames(message))
    except msgspec.MsgspecError as error:
        log.warning("frames_unreadable", error=str(error))
        return []


class FrameChannel:
    """One gateway's subscription."""

    def __init__(self, url: str, gateway: GatewayId) -> None:
        self._url = url
        self._channel = keys.frames(gateway)

    async def listen(self) -> AsyncIterator[list[Frame]]:
        """Lists of frames as they are published; an empty list once, when the subscription stands. Raises `RedisAway`
        when the connection is lost or silent: subscribe again, then repair every live job from its log."""
        async with subscribed(self._url, self._channel) as messages:
            while True:
                for message in await messages.next():
                    yield [] if message is None else _frames(message)
