"""Pictures are shown to a model that sees, and refused in words for one that does not."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import FilePayload, Page, expect

from millstream.common.job import ModelName
from tests.harness.scripted_upstream import ScriptedUpstream, Turn, open_upstream
from tests.ui.conftest import MODEL, PATIENCE, Scene, done, say

SEEING = "seeing"
CAN = {"goes_on", "usage", "completions", "chat", "seed", "images"}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
URL = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
# Gives the field a picture as a paste or a drop would, made from its text: the page may fetch nothing from elsewhere.
GIVE = """([kind, name, url]) => {
  const bytes = Uint8Array.from(atob(url.split(",")[1]), (each) => each.charCodeAt(0));
  const blob = new Blob([bytes], { type: url.slice(5, 14) });
  const data = new DataTransfer();
  data.items.add(new File([blob], name, { type: blob.type }));
  const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.querySelector(".composer textarea").dispatchEvent(event);
}"""
DRAWN = """(width) => {
  const canvas = Object.assign(document.createElement("canvas"), { width, height: width / 2 });
  const context = canvas.getContext("2d");
  const noise = context.createImageData(canvas.width, canvas.height);
  for (let at = 0; at < noise.data.length; at++) noise.data[at] = (at * 7919) % 256;
  context.putImageData(noise, 0, 0);
  return canvas.toDataURL("image/png");
}"""


@asynccontextmanager
async def a_model_that_sees(scene: Scene) -> AsyncIterator[ScriptedUpstream]:
    async with open_upstream(ScriptedUpstream(can=CAN, usual=Turn(words=5))) as upstream:
        worker = await scene.worker("", engine="openai", upstream=upstream.url, served_model_name=SEEING)
        yield upstream
        await worker.kill()
        await scene.forget(ModelName(SEEING))


@pytest_asyncio.fixture(loop_scope="session")
async def upstream(scene: Scene, page: Page) -> AsyncIterator[ScriptedUpstream]:
    """A server whose model sees, chosen in the page."""
    async with a_model_that_sees(scene) as opened:
        await page.get_by_label("Model").locator(f"option[value={SEEING}]").wait_for(state="attached", timeout=PATIENCE)
        await page.get_by_label("Model").select_option(SEEING)
        yield opened


def file(name: str, data: bytes, kind: str = "image/png") -> list[FilePayload]:
    return [{"name": name, "mimeType": kind, "buffer": data}]


async def pick(page: Page, files: list[FilePayload]) -> None:
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Add a picture").click()
    await (await chooser.value).set_files(files)


def images(body: dict[str, Any]) -> list[str]:
    """Returns the pictures of all messages of a request."""
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


async def test_pictures_picked_pasted_and_dropped_are_shown_to_a_model_that_sees(
    page: Page, upstream: ScriptedUpstream
) -> None:
    await pick(page, file("picked.png", PIXEL))
    for kind in ("paste", "drop"):
        await page.evaluate(GIVE, [kind, f"{kind}.png", URL])
    await expect(page.locator(".composer img")).to_have_count(3)
    await page.get_by_role("button", name="Delete: Picture 3").click()
    await expect(page.locator(".composer img")).to_have_count(2)
    await say(page, "What is to be seen?")
    await done(page)
    await expect(page.locator(".message.user img")).to_have_count(2)
    await expect(page.locator(".composer img")).to_have_count(0)
    assert images(upstream.asked[-1]) == [URL, URL]
    await page.reload()
    await expect(page.locator(".message.user img")).to_have_count(2)
    await say(page, "And now?")
    await done(page)
    assert images(upstream.asked[-1]) == [URL, URL]
    await page.get_by_label("Model").select_option(MODEL)
    await expect(page.get_by_text("alpha does not see: the pictures of this conversation")).to_be_visible()
    await say(page, 'script: {"text": "blind"}')
    await done(page)
    await expect(page.locator(".assistant").last).to_contain_text("blind")


@pytest.mark.ui
async def test_a_large_picture_is_made_smaller(page: Page, upstream: ScriptedUpstream) -> None:
    drawn = str(await page.evaluate(DRAWN, 3000))
    await page.evaluate(GIVE, ["paste", "large.png", drawn])
    shown = page.locator(".composer img")
    await shown.wait_for()
    await page.wait_for_function("() => document.querySelector('.composer img').naturalWidth === 1280")
    await page.get_by_role("button", name="Send").click()
    await done(page)
    [sent] = images(upstream.asked[-1])
    assert sent.startswith("data:image/jpeg;base64,")


@pytest.mark.ui
async def test_what_cannot_be_shown_is_refused_in_words(page: Page, upstream: ScriptedUpstream) -> None:
    told = page.get_by_role("alert")
    await pick(page, file("text.png", b"no picture at all"))
    await expect(told).to_contain_text("text.png is no picture that can be read.")
    await pick(page, file("huge.png", bytes(30_000_001)))
    await expect(told).to_contain_text("huge.png is too large")
    await pick(page, file("many.png", PIXEL) * 9)
    await expect(told).to_contain_text("At most 8 pictures")
    await expect(page.locator(".composer img")).to_have_count(8)
    await page.get_by_label("Model").select_option(MODEL)
    await page.get_by_role("button", name="Send").click()
    await expect(told).to_contain_text("alpha does not see")
    await expect(page.locator(".message")).to_have_count(0)
    assert not upstream.asked


async def test_a_model_that_does_not_see_is_shown_none(page: Page, scene: Scene) -> None:
    await pick(page, file("picked.png", PIXEL))
    await expect(page.get_by_role("alert")).to_contain_text("alpha does not see: it cannot be shown a picture.")
    await expect(page.locator(".composer img")).to_have_count(0)
