"""One Chromium and one cluster for all tests of the page; a context (as a private window) for each test."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from millstream.bench.chaos.fleet import Fleet, FleetPart
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import census, forget_model, model_info
from millstream.common.job import ModelName
from tests.harness.queue_site import Site, open_site
from tests.harness.support import wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "no Chromium is installed (Debian: apt-get install chromium), so the page cannot be looked at"
MODEL, OTHER = "alpha", "beta"
PATIENCE = 30_000  # ms; only a safety net
expect.set_options(timeout=PATIENCE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", help="the folder into which the pictures of the docs are written")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives all tests here one event loop, so that they can share a browser, and skips them where there is none."""
    for item in items:
        if item.nodeid.startswith("tests/ui/"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


@dataclass
class Scene:
    """A cluster of real processes, shared by the tests: a gateway, a worker of each of two models."""

    site: Site
    fleet: Fleet
    broker: Broker
    gateway: FleetPart

    @property
    def url(self) -> str:
        return self.gateway.url

    async def worker(self, model: str = MODEL, **settings: str) -> FleetPart:
        """A worker that has announced itself."""
        return await started(self.fleet, self.broker, model=model, **settings)

    @asynccontextmanager
    async def busy(self, model: str, jobs: int = 1) -> AsyncIterator[None]:
        """Some who ask a model for more than it can say meanwhile."""
        asking = [asyncio.create_task(self.answer(f"{at}", model=model, max_tokens=4000)) for at in range(jobs)]
        try:
            yield
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def enough_workers(self) -> None:
        """Sees to it that two can write an answer of the first model: one may be killed."""
        info = await model_info(self.broker, ModelName(MODEL))
        for _ in range(2 - info.live):
            await self.worker()

    async def forget(self, model: ModelName) -> None:
        """Takes back what a test has put into the queue of a model that no process serves."""
        found = [key async for key in self.broker.redis.scan_iter(f"{keys.prefix(model)}*")]
        await self.broker.redis.delete(*found)
        await forget_model(self.broker, model)

    async def empty(self) -> None:
        """Deletes the conversations that earlier tests had."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            for each in (await http.get("/v1/conversations?limit=100")).json()["data"]:
                await http.delete(f"/v1/conversations/{each['id']}")

    async def answer(self, question: str, **sampling: Any) -> str:
        """Returns what the API answers to the question, undisturbed."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}], **sampling}
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            answer = await http.post("/v1/chat/completions", json=body)
        return str(answer.json()["choices"][0]["message"]["content"])


async def started(fleet: Fleet, broker: Broker, **settings: str) -> FleetPart:
    """Starts a worker, and returns when it has announced itself."""
    part = await fleet.worker(**{"simulated_rate": "60", "simulated_length": "100000", **settings})

    async def alive() -> bool:
        workers = [worker for model in await census(broker) for worker in model.workers]
        return any(worker.alive and worker.details.get("pid") == str(part.pid) for worker in workers)

    await wait_until(alive, within=60, what=f"{part.name} announces itself")
    return part


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    room = tmp_path_factory.mktemp("ui")
    async with (
        EmbeddedValkey(room / "valkey") as valkey,
        Fleet(room / "logs", valkey.url, lease="1.0") as fleet,
        Broker(valkey.url) as broker,
        open_site(valkey.url) as site,
    ):
        starting = asyncio.create_task(fleet.gateway(local_workers="true"))
        settings = [{"model": MODEL}, {"model": MODEL}, {"model": OTHER, "slots": "1"}]
        await asyncio.gather(*(started(fleet, broker, **each) for each in settings))
        yield Scene(site, fleet, broker, await starting)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        opened = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # CI runs as root
        yield opened
        await opened.close()


@asynccontextmanager
async def window(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A private window, in which no script may fail and to which nothing comes from elsewhere."""
    opened = await browser.new_context(viewport={"width": 1200, "height": 800}, locale="en-GB")
    opened.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    opened.on("weberror", lambda error: wrong.append(str(error.error)))
    hosts: set[str] = set()
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2] if "://" in request.url else "127.0.0.1"))
    yield opened
    await opened.close()
    assert not wrong
    assert {host.partition(":")[0] for host in hosts} <= {"127.0.0.1"}


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A window in which the page's policy, too, has nothing to stop. (With hostile text it complains while DOMPurify
    reads that, in a document of its own.)"""
    stopped: list[str] = []
    async with window(browser) as opened:
        opened.on("console", lambda told: stopped.append(told.text) if "Content Security" in told.text else None)
        yield opened
    assert not stopped


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext, scene: Scene) -> Page:
    """The page at its beginning: without a conversation of an earlier test."""
    await scene.empty()
    opened = await context.new_page()
    await opened.goto(f"{scene.url}/")
    return opened


async def set_up(page: Page, **settings: str) -> None:
    """Sets parameters of the conversation, by their labels."""
    await page.get_by_role("button", name="Settings").click()
    for label, value in settings.items():
        await page.get_by_label(label.replace("_", " ")).fill(value)
    await page.get_by_role("button", name="Settings").click()


async def say(page: Page, text: str) -> None:
    await page.get_by_placeholder("Ask something").fill(text)
    await page.keyboard.press("Enter")


WITHOUT_SEAMS = """e => {
  const copy = e.cloneNode(true);
  copy.querySelectorAll(".seam").forEach((mark) => mark.remove());
  return copy.textContent;
}"""


async def text_of(page: Page) -> str:
    """Returns the text of the last answer, without the marks of its seams."""
    return str(await page.locator(".assistant .md").last.evaluate(WITHOUT_SEAMS))


async def words_of(page: Page) -> list[str]:
    return (await text_of(page)).split()


async def begun(page: Page, words: int = 8) -> None:
    """Waits until an answer is in its middle."""
    script = (
        f"() => [...document.querySelectorAll('.assistant .md')].at(-1)?.textContent.split(/\\s+/).length > {words}"
    )
    await page.wait_for_function(script)


async def done(page: Page) -> None:
    await page.locator(".assistant").last.and_(page.locator("[data-state=done]")).wait_for()
