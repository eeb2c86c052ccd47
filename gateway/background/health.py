"""Is any background process of this cluster at work? `python -m millstream.gateway.background.health` is the health
check of its container: status 0 or 1, and one line."""

import asyncio
import sys
from collections.abc import Awaitable
from typing import cast

from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.errors import Unavailable
from millstream.gateway.background.settings import BackgroundSettings

QUEUE = "arq:millstream"  # of the background jobs


def sign_of_life(queue: str) -> str:
    """Returns the key that is there while a process works on the queue."""
    return f"{queue}:health-check"


async def at_work(redis_url: str) -> bool:
    """Tells whether a process works on the background jobs of that Redis. Raises `Unavailable`."""
    async with Broker(redis_url) as broker, redis_errors():
        found = cast(Awaitable[int], broker.redis.exists(sign_of_life(QUEUE)))
        return bool(await found)


def main() -> int:
    """Returns the exit status."""
    settings = BackgroundSettings()
    try:
        working = asyncio.run(at_work(settings.background_redis_url or settings.redis_url))
    except Unavailable as error:
        print(error.message)
        return 1
    print("at work" if working else "no background process has looked at its queue lately")
    return int(not working)


if __name__ == "__main__":
    sys.exit(main())
