"""Pictures for the docs (`make pictures`), crowded views, and what a screen reader would stumble over."""

import asyncio
import json
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.harness.queue_site import MODEL as SIMULATED
from tests.ui.conftest import Scene, done, say

pytestmark = pytest.mark.ui
TEXT = """A water mill turns a *stream* into work:

1. The **sluice** lets in as much as the wheel can take.
2. The wheel turns at its own pace, whatever the river does.
3. What does not fit waits in the mill pond, and is not lost.

| part | here |
|---|---|
| river | requests |
| pond | Redis streams |
| wheel | workers |

```python
for token in answer:
    print(token, end="")
```
"""


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    chosen = request.config.getoption("--pictures", default=None)
    return Path(chosen) if chosen else tmp_path


async def test_a_picture_of_an_answer_that_two_workers_wrote(page: Page, scene: Scene, pictures: Path) -> None:
    await scene.enough_workers()
    script = {"reasoning": "A picture of a mill, then.", "text": TEXT, "rate": 150, "crash": "once", "after": 110}
    await say(page, f"script: {json.dumps(script)}")
    await done(page)
    await expect(page.locator(".story")).to_contain_text("0 lost, 0 repeated")
    await page.locator(".message.user").evaluate(
        "e => { e.querySelector('.body').textContent = 'What does a mill do?' }"
    )
    await page.locator("aside li button").first.evaluate("e => { e.textContent = 'What does a mill do?' }")
    await picture(page, pictures / "chat.png")


async def test_a_picture_of_the_cluster(page: Page, scene: Scene, pictures: Path) -> None:
    await scene.worker("pond", slots="4")
    await scene.worker("pond", slots="4")
    async with scene.busy("pond", jobs=11):
        await page.set_viewport_size({"width": 1200, "height": 1300})
        await page.goto(f"{scene.url}/#/cluster")
        await page.locator(".queue td", has_text="all slots are busy").first.wait_for()
        await page.locator(".queue td", has_text="running").first.wait_for()
        await picture(page, pictures / "cluster.png")


async def picture(page: Page, file: Path) -> None:
    await page.mouse.move(0, 0)
    await page.screenshot(path=file, animations="disabled")
    assert file.stat().st_size > 10_000


async def test_a_thousand_jobs_and_a_hundred_workers_are_shown(page: Page, scene: Scene) -> None:
    for at in range(100):
        await scene.site.beat(f"worker-{at:03}", slots="8")
    await scene.site.put(*(f"job-{at:04}" for at in range(1000)), tenant="crowd")
    await page.goto(f"{scene.url}/#/cluster")
    await expect(page.locator("tr", has_text="worker-0").filter(has_text="simulated")).to_have_count(100)
    await page.evaluate(WATCH)
    more = page.get_by_role("button", name="More (1000)")
    await more.click()
    await expect(page.locator(".queue tbody tr")).to_have_count(1000)
    await asyncio.sleep(4)  # looks at a cluster that stays as it is; nothing is asserted of their time
    print(f"1,000 jobs: {await page.evaluate(TASKS)}")
    await scene.forget(SIMULATED)


TASKS = "`${window.tasks.length} tasks above 50 ms, the longest ${Math.max(0, ...window.tasks).toFixed(0)} ms`"
WATCH = """() => {
  window.tasks = [];
  new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((each) => each.duration)))
    .observe({ type: "longtask" });
}"""


async def test_five_hundred_messages_are_shown_and_one_more_grows(page: Page) -> None:
    await page.evaluate(LONG_TALK)
    await page.reload()
    await expect(page.locator(".message")).to_have_count(500)
    await page.evaluate(WATCH)
    await say(page, 'script: {"text": "one more", "rate": 60}')
    await done(page)
    print(f"500 messages: {await page.evaluate(TASKS)}")


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


# A picture beside the question, as if a model that sees had been given one.
ADDED = """async () => {
  const { setModels } = await import("/ui/lib/pictures.js");
  setModels([{ id: "alpha", capabilities: ["images"] }]);
  const dot = atob("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7");
  const bytes = Uint8Array.from(dot, (each) => each.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "dot.gif", { type: "image/gif" }));
  const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
  document.querySelector(".composer textarea").dispatchEvent(event);
}"""


@pytest.mark.parametrize("view", ["chat", "arena", "cluster", "work", "usage", "keys"])
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing_serious(page: Page, scene: Scene, view: str, theme: str) -> None:
    await page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    await page.goto(f"{scene.url}/#/{view}")
    await page.locator("main :is(h2, textarea, .figures, .panel)").first.wait_for()
    if view == "chat":
        await say(page, 'script: {"text": "# Title [link](https://example.org) and `code`", "reasoning": "so"}')
        await done(page)
        await page.get_by_role("button", name="Rename").first.click()
        await page.evaluate(ADDED)
        await page.locator(".composer .pictures img").wait_for()
    found = await Axe().run(page)
    serious = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert not [(each["id"], [node["html"][:150] for node in each["nodes"]][:5]) for each in serious]
