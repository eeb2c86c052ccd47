"""A client of `millstream chaos` that reads with OpenAI's own SDK, where that is installed."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import httpx

from millstream.bench.chaos.stream import CLIENT_PATIENCE, COME_BACK_AFTER, Heard, StreamClient

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk


def there() -> bool:
    """Tells whether the SDK is installed. It is no dependency."""
    try:
        import openai
    except ImportError:
        return False
    return bool(openai.__version__)


class SdkClient(StreamClient):
    """Asks through the SDK. It goes on with no stream by itself: when its connection breaks it asks once more with its
    `Idempotency-Key` and reads the same answer from the beginning. What it has had must be how that begins."""

    async def run(self) -> Heard:
        import openai

        had, connections = "", 0
        while not self.heard.complete and not self.heard.errors:
            self.heard = Heard(connections=connections)
            try:
                await self.listen()
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError, httpx.TransportError):
                pass  # that is what asking again is for
            except (openai.OpenAIError, ValueError) as error:  # what ends a user's program
                self.heard.errors.append({"sdk": repr(error)})
            connections = self.heard.connections
            if not (self.heard.text.startswith(had) or had.startswith(self.heard.text)):
                self.heard.errors.append({"sdk": "the same key has another answer"})
            had = max(had, self.heard.text, key=len)
            if not self.heard.complete and not self.heard.errors:
                await asyncio.sleep(COME_BACK_AFTER)
        return self.heard

    async def listen(self) -> None:
        """Reads one connection, as long as it lasts."""
        import openai

        self.heard.connections += 1
        async with openai.AsyncOpenAI(
            base_url=f"{self.base()}/v1", api_key="none", max_retries=0, timeout=CLIENT_PATIENCE
        ) as client:
            headers = {**self.headers, "idempotency-key": self.key}
            body: Any = self.ask.body()
            create = cast(Any, client.chat.completions.create)  # its overloads cannot be matched with a mapping
            stream = await create(**body, extra_headers=headers)
            async for chunk in cast("AsyncIterator[ChatCompletionChunk]", stream):
                self.heard.take("", json.dumps(chunk.model_dump(mode="json")))
                if self.pace:
                    await asyncio.sleep(self.pace)
        if self.heard.finishes and self.heard.usages:  # the SDK keeps [DONE] to itself
            self.heard.dones += 1
