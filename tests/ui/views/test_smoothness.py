"""Crowded views stay smooth: a thousand jobs, a hundred workers, five hundred messages.

`make smooth` prints what they cost: the milliseconds of script in a frame, and the longest task. The tests assert only
what does not depend on the machine: all is there, and what is far from sight is not drawn."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, expect

from tests.harness.queue_site import MODEL as SIMULATED
from tests.harness.support import wait_until
from tests.ui.conftest import Scene, done, say

pytestmark = pytest.mark.ui
WATCHED = 4  # seconds; nothing is asserted of them
WATCH = """() => {
  Object.assign(window, { tasks: [], frames: 0 });
  new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((each) => each.duration)))
    .observe({ type: "longtask" });
  const count = () => (window.frames++, requestAnimationFrame(count));
  requestAnimationFrame(count);
}"""
FIGURES = "[window.frames, window.tasks.length, Math.max(0, ...window.tasks)]"
SCROLLING = """(place) => {
  const roll = () => (document.querySelector(place).scrollBy(0, window.down ?? 60), requestAnimationFrame(roll));
  requestAnimationFrame(roll);
}"""


@asynccontextmanager
async def measured(page: Page, what: str) -> AsyncGenerator[None]:
    """Prints what the page's script costs meanwhile, as Chromium itself counts it."""
    browser = await page.context.new_cdp_session(page)
    await browser.send("Performance.enable")

    async def script() -> float:
        found = (await browser.send("Performance.getMetrics"))["metrics"]
        return float(next(each["value"] for each in found if each["name"] == "ScriptDuration"))

    await page.evaluate(WATCH)
    before = await script()
    yield
    spent, (frames, tasks, longest) = await script() - before, await page.evaluate(FIGURES)
    each = 1000 * spent / max(frames, 1)
    told = f"{tasks} tasks above 50 ms, the longest {longest:.0f} ms"
    print(f"{what}: {each:.2f} ms of script in each of {frames} frames, {told}")


async def test_a_thousand_jobs_and_a_hundred_workers_are_shown(page: Page, scene: Scene) -> None:
    for at in range(100):
        await scene.site.beat(f"worker-{at:03}", slots="8")
    await scene.site.put(*(f"job-{at:04}" for at in range(1000)), tenant="crowd")
    await page.goto(f"{scene.url}/#/cluster")
    await expect(page.locator("tr", has_text="worker-0").filter(has_text="simulated")).to_have_count(100)
    queue = page.locator(".queue table")
    async with measured(page, "1,000 jobs and 100 workers, live"):
        await page.get_by_role("button", name="More (1000)").click()
        await expect(queue).to_have_attribute("aria-rowcount", "1001")
        await asyncio.sleep(WATCHED)
    async with measured(page, "the same, scrolled through"):
        await page.evaluate(SCROLLING, "main")
        await asyncio.sleep(WATCHED)
        await page.evaluate("window.down = 0")
    for row in (1001, 500, 2):
        await scrolled_to(page, row)
        assert await queue.locator("tr").count() < 500  # those in sight, and some around them
    await scene.forget(SIMULATED)


async def scrolled_to(page: Page, row: int) -> None:
    """Scrolls through the queue until a row is drawn: those that are far from what is in sight are not."""

    async def drawn() -> bool:
        await page.locator("main").evaluate(SCROLL, (row - 1) / 1000)
        return await page.locator(f".queue [aria-rowindex='{row}']").is_visible()

    await wait_until(drawn, within=30, every=0.2, what=f"row {row} is drawn")


SCROLL = """(main, share) => {
  const table = document.querySelector(".queue table").getBoundingClientRect();
  main.scrollTop += table.top + share * table.height - innerHeight / 2;
}"""


async def test_five_hundred_messages_are_shown_and_one_more_grows(page: Page) -> None:
    await page.evaluate(LONG_TALK)
    await page.reload()
    await expect(page.locator(".message")).to_have_count(500)
    assert await page.locator(".md strong").count() < 250 * 40  # what is far from sight is not rendered
    async with measured(page, "500 messages, one more is written"):
        await say(page, 'script: {"text": "one more", "rate": 60}')
        await done(page)
    await expect(page.locator(".message")).to_have_count(502)
    async with measured(page, "the same, scrolled through"):
        await page.evaluate("window.down = -60")
        await page.evaluate(SCROLLING, ".messages")
        await asyncio.sleep(WATCHED)


LONG_TALK = """() => {
  const messages = {};
  let parent = null;
  for (let at = 0; at < 500; at++) {
    const id = `m${at}`;
    const answer = { body: { model: "alpha" }, state: "done", text: `**${at}** `.repeat(40), tools: [], seams: [],
      leases: [], thinking: "", tokens: 40, first: 1, sent: 0, last: 1000, offsets: [], usage: null, reconnects: 0,
      checked: "" };
    messages[id] = { id, parent, role: at % 2 ? "assistant" : "user", text: "hello", ...(at % 2 ? { answer } : {}) };
    parent = id;
  }
  const talk = { id: "long", title: "long", changed: 1, model: "alpha", settings: {}, leaf: parent, messages };
  localStorage.setItem("millstream.talk.long", JSON.stringify(talk));
  sessionStorage.setItem("millstream.last", "long");
}"""
