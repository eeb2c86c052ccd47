"""The device sleeps, the tab is frozen, the network is away, a connection dies without a word: the answer goes on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.harness.support import wait_until
from tests.ui.conftest import Scene, begun, done, say, set_up, words_of

pytestmark = pytest.mark.ui
LONG = {"Most_tokens": "150", "Seed": "41"}
SAMPLING = {"max_tokens": 150, "seed": 41}


async def ended(page: Page, scene: Scene) -> None:
    """Waits until the page's answer has ended on the server, whatever the page knows of it."""
    id = await page.locator(".assistant").last.get_attribute("data-id")

    async def over() -> bool:
        async with httpx.AsyncClient(base_url=scene.url) as http:
            return bool((await http.get(f"/v1/jobs/{id}")).json()["state"] == "finished")

    await wait_until(over, within=60, what="the answer has ended")


async def whole(page: Page, scene: Scene, question: str) -> None:
    await done(page)
    assert await words_of(page) == (await scene.answer(question, **SAMPLING)).split()
    await expect(page.get_by_text("The text differs from the log!")).to_have_count(0)


@pytest.mark.parametrize("sleeps", ["in its middle", "until after its end"])
async def test_a_frozen_tab_wakes_and_goes_on(page: Page, context: BrowserContext, scene: Scene, sleeps: str) -> None:
    question = f"frozen {sleeps}"
    await set_up(page, **LONG)
    await say(page, question)
    await begun(page)
    browser = await context.new_cdp_session(page)
    await browser.send("Page.setWebLifecycleState", {"state": "frozen"})
    if sleeps == "until after its end":
        await ended(page, scene)
    else:
        await asyncio.sleep(0.5)  # nothing is asserted of this time
    await browser.send("Page.setWebLifecycleState", {"state": "active"})
    await whole(page, scene, question)


class Way:
    """A way to the gateway that can be cut. Its connections can also go dead: nothing passes any more, and neither end
    is told."""

    def __init__(self) -> None:
        self.url = ""
        self._cut = False
        self._ends: set[asyncio.StreamWriter] = set()
        self._awake = asyncio.Event()
        self._awake.set()

    def cut(self) -> None:
        """Breaks the connections, and refuses others until it is mended."""
        self._cut = True
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        self._cut = False

    def kill(self) -> None:
        """Kills the connections of now; later ones are alive."""
        self._awake.clear()
        self._awake = asyncio.Event()
        self._awake.set()

    async def carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        awake = self._awake
        self._ends.add(writer)
        others = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copied(awake, reader, others[1]), copied(awake, others[0], writer))
        self._ends.discard(writer)


async def copied(awake: asyncio.Event, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while some := await source.read(65536):
            await awake.wait()
            target.write(some)
            await target.drain()
    target.close()


@asynccontextmanager
async def way_to(url: str) -> AsyncGenerator[Way]:
    way = Way()
    server = await asyncio.start_server(partial(way.carry, int(url.rpartition(":")[2])), "127.0.0.1", 0)
    way.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield way
    server.close()


async def test_a_network_that_was_away_is_no_end(context: BrowserContext, scene: Scene) -> None:
    async with way_to(scene.url) as way:
        page = await context.new_page()
        await page.goto(f"{way.url}/")
        await set_up(page, **LONG)
        await say(page, "cut off")
        await begun(page)
        way.cut()
        await expect(page.locator(".assistant [role=status]")).to_contain_text("connection lost")
        await ended(page, scene)
        way.mend()
        await whole(page, scene, "cut off")
        await expect(page.locator(".story")).to_contain_text("0 lost, 0 repeated")
        await page.close()


async def test_a_connection_that_died_without_a_word_is_left(context: BrowserContext, scene: Scene) -> None:
    async with way_to(scene.url) as way:
        page = await context.new_page()
        await page.clock.install()
        await page.goto(f"{way.url}/")
        await set_up(page, **LONG)
        await say(page, "gone silent")
        await begun(page)
        way.kill()
        await ended(page, scene)
        assert await page.locator(".assistant[data-state=writing]").count() == 1  # it has not been told
        await page.clock.fast_forward(70_000)
        await whole(page, scene, "gone silent")
        await page.close()
