"""Pictures for the docs (`make pictures`), and what a screen reader would stumble over."""

import json
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

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
        await page.set_viewport_size({"width": 1100, "height": 1000})
        await page.goto(f"{scene.url}/#/cluster")
        await page.locator(".queue td", has_text="all slots are busy").first.wait_for()
        await page.locator(".queue td", has_text="running").first.wait_for()
        await page.locator(".queue").evaluate("e => e.scrollIntoView({ block: 'end' })")
        await picture(page, pictures / "cluster.png")


async def picture(page: Page, file: Path) -> None:
    await page.mouse.move(0, 0)
    await page.screenshot(path=file, animations="disabled")
    assert file.stat().st_size > 10_000


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
