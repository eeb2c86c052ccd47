"""The upstreams of one model: found, asked, left alone while they are busy, and looked for when they are away."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import Any, Protocol

import httpx
import structlog

from millstream.common.errors import MillstreamError
from millstream.common.process.backoff import Backoff
from millstream.worker.engines.base import EngineStats, LoadProgress, UpstreamLost
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.probe import fingerprint, look, probe, unreachable
from millstream.worker.engines.openai.reading import EventReader, garbage
from millstream.worker.engines.openai.refusals import AWAY, BUSY, refusal, retry_after
from millstream.worker.engines.openai.settings import SLOTS, Address, UpstreamSettings, address_of
from millstream.worker.engines.openai.upstream import Upstream, client_of

USUAL_CONTEXT = 131_072  # tokens, for an upstream that does not tell: it refuses by itself what is too long
LONGEST_PAUSE = 5.0  # seconds between two looks at an upstream that is away
BUSY_PAUSE = 1.0  # seconds a busy upstream is left alone if it does not say how long; doubles with each in a row
LONGEST_ANSWER = 64 * 2**20  # bytes of an answer that comes as a whole

log = structlog.stdlib.get_logger(part="upstream")


class EventConsumer(Protocol):
    """The reader of an answer's events, as far as their coming matters."""

    @property
    def begun(self) -> bool: ...

    @property
    def done(self) -> bool:
        """Tells whether nothing more is to come."""
        ...


class UpstreamPool:
    """Each request goes to the upstream with most room. `fingerprint` names what all of them compute."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.settings = settings
        self.fingerprint = ""
        self._addresses = [address_of(url) for url in settings.urls]
        self._abilities: dict[Address, Abilities] = {}
        self._upstreams: list[Upstream] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[], None] = lambda: None
        self._events = 0

    # -------------------------------------------------------------------------------------------------------- load

    async def find(self, progress: LoadProgress) -> tuple[Address, Abilities]:
        """Waits for the first upstream that answers: there is no order of starting. Raises `BadRequest` for what
        waiting does not mend."""
        backoff = Backoff(most=LONGEST_PAUSE)
        while True:
            for address in self._addresses:
                progress(f"asks {address.root} what it can do", None)
                try:
                    async with client_of(address, self.settings) as client:
                        self._abilities[address] = await self._probed(client, address)
                except UpstreamLost as error:
                    progress(f"waits for the upstream: {error.message}", None)
                else:
                    progress(f"found {address.root}", None)
            if self._abilities:
                return next(iter(self._abilities.items()))
            await backoff.sleep()

    async def _probed(self, client: httpx.AsyncClient, address: Address) -> Abilities:
        found = await probe(client, address, await look(client, address, self.settings.model))
        self.fingerprint = self.fingerprint or fingerprint(found)
        told = {"server": found.server, "model": found.model, "found": found.found, "missing": found.missing}
        log.info("upstream_probed", upstream=address.root, **told)
        return found

    def card_facts(self, found: Abilities) -> dict[str, Any]:
        """Returns the fields of a card that all models of upstreams share."""
        return {
            "name": self.settings.served_name or _shown_name(found.model),
            "engine": "openai",
            "context_length": self.settings.context_length or found.context_length or USUAL_CONTEXT,
            "details": ({"dimensions": str(found.dimensions)} if found.dimensions else {})
            | {
                "upstream": " ".join(address.root for address in self._addresses),
                "upstream_server": found.server,
                "upstream_can": ", ".join(found.found),
                "upstream_cannot": ", ".join(found.missing),
            },
        }

    # ------------------------------------------------------------------------------------------------------- serve

    def start(self, changed: Callable[[], None]) -> None:
        """Begins to serve on the running event loop; `changed` is called whenever `slots` has changed."""
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        for address in self._addresses:
            upstream = Upstream(address, client_of(address, self.settings), self._changed)
            self._upstreams.append(upstream)
            if address in self._abilities:
                upstream.back(self._abilities[address], self._most(self._abilities[address]))
            else:
                self._look_for(upstream)

    @property
    def slots(self) -> int:
        """Returns how many requests the upstreams take at once now."""
        if not self._upstreams:
            return sum(map(self._most, self._abilities.values()))
        return sum(upstream.open for upstream in self._upstreams)

    def stats(self) -> EngineStats:
        return EngineStats(sum(upstream.running for upstream in self._upstreams), self._events)

    def close(self) -> None:
        """Called from a thread while the loop still runs."""
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._aclose(), self._loop).result(timeout=10)

    async def _aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        for upstream in self._upstreams:
            await upstream.client.aclose()

    def _most(self, abilities: Abilities) -> int:
        if self.settings.slots is not None:
            return max(1, self.settings.slots // len(self._addresses))
        return abilities.slots or SLOTS

    # --------------------------------------------------------------------------------------------------------- ask

    def pick(self) -> tuple[Upstream, Abilities]:
        """Returns the upstream with most room. Raises `UpstreamLost` if none is to be asked now."""
        free = [each for each in self._upstreams if each.open and each.abilities is not None]
        if not free:
            raise UpstreamLost("No upstream can be asked now.", attempts=0)
        chosen = max(free, key=lambda each: each.open - each.running)
        assert chosen.abilities is not None
        return chosen, chosen.abilities

    @asynccontextmanager
    async def asking(self, upstream: Upstream, route: str, body: Mapping[str, Any]) -> AsyncGenerator[httpx.Response]:
        """Sends a request; the answer has begun well. Raises what kept it from beginning, or broke it off."""
        upstream.running += 1
        try:
            async with upstream.client.stream("POST", route, json=body) as response:
                if response.status_code != 200:
                    raise self._refused(upstream, response, await self._whole(response))
                yield response
        except httpx.ConnectError as error:
            raise self.lost(upstream, error, attempts=0) from error
        except (httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise self.lost(upstream, error, attempts=0) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise self.lost(upstream, error, attempts=1) from error
        finally:
            upstream.running -= 1

    async def events_of(self, response: httpx.Response, reader: EventConsumer) -> AsyncGenerator[bytes]:
        """Yields the data of the answer's events. Raises `TimeoutError` for an upstream that has fallen silent."""
        if "text/event-stream" not in response.headers.get("content-type", ""):
            yield await self._whole(response)
            return
        events, raw = EventReader(), response.aiter_bytes()
        while not reader.done:
            async with asyncio.timeout(self.settings.silence if reader.begun else self.settings.first):
                data = await anext(raw, b"")
            for event in events.feed(data) if data else events.end():
                self._events += 1
                yield event
            if not data:
                return

    async def whole(self, upstream: Upstream, route: str, body: Mapping[str, Any]) -> tuple[bytes, Mapping[str, str]]:
        """Returns an answer that comes as a whole, and its headers. Raises as `asking` does."""
        async with self.asking(upstream, route, body) as response:
            self._events += 1
            return await self._whole(response), response.headers

    async def _whole(self, response: httpx.Response) -> bytes:
        """Returns an answer that comes as a whole. One that is too long is not read to its end."""
        body = bytearray()
        async with asyncio.timeout(self.settings.first):
            async for data in response.aiter_bytes():
                body += data
                if len(body) > LONGEST_ANSWER:
                    raise garbage("an answer too long")
        return bytes(body)

    # ------------------------------------------------------------------------------------------- away and back again

    def _refused(self, upstream: Upstream, response: httpx.Response, body: bytes) -> MillstreamError:
        status, error = response.status_code, refusal(response.status_code, body)
        if isinstance(error, UpstreamLost) and status in BUSY:
            asked = retry_after(response.headers)
            pause = asked if asked is not None else min(60.0, BUSY_PAUSE * 2**upstream.refusals)
            upstream.rest(pause)
            log.warning("upstream_rests", upstream=upstream.address.root, status=status, seconds=pause)
            assert self._loop is not None
            self._loop.call_later(pause + 0.01, self._changed)
        elif isinstance(error, UpstreamLost) and status in AWAY:
            self._go_looking(upstream, error.message)
        return error

    def lost(self, upstream: Upstream, error: Exception, *, attempts: int) -> UpstreamLost:
        """Takes the upstream out of use until it answers again."""
        why = "it fell silent" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        if isinstance(error, httpx.HTTPError) and attempts == 0:
            why = unreachable(upstream.address, error).message
        self._go_looking(upstream, why)
        return UpstreamLost(f"The upstream was lost: {why}", attempts=attempts)

    def _go_looking(self, upstream: Upstream, why: str) -> None:
        if not upstream.away:
            upstream.lost()
            log.warning("upstream_away", upstream=upstream.address.root, error=why)
            self._look_for(upstream)

    def _look_for(self, upstream: Upstream) -> None:
        task = asyncio.create_task(self._until_back(upstream), name=f"look for {upstream.address.root}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_back(self, upstream: Upstream) -> None:
        backoff, said = Backoff(most=LONGEST_PAUSE), ""
        while True:
            await backoff.sleep()
            try:
                abilities = await self._seen_again(upstream)
            except MillstreamError as error:
                if error.message != said:
                    log.info("upstream_still_away", upstream=upstream.address.root, error=error.message)
                said = error.message
                continue
            upstream.back(abilities, self._most(abilities))
            log.info("upstream_back", upstream=upstream.address.root)
            return

    async def _seen_again(self, upstream: Upstream) -> Abilities:
        """Returns what an upstream can do that answers and serves what it did before. Raises `MillstreamError`."""
        seen = await look(upstream.client, upstream.address, self.settings.model)
        if fingerprint(seen) != self.fingerprint:
            raise UpstreamLost(f"{upstream.address.root} serves another model than the others", attempts=0)
        return upstream.abilities or await self._probed(upstream.client, upstream.address)


def _shown_name(model: str) -> str:
    """Returns what clients call a model: a file by its name without folder and suffix, any other as it is."""
    return PurePath(model).stem if model.endswith(".gguf") else model
