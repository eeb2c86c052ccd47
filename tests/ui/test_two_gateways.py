"""Two windows read one answer, each from a gateway of its own, while workers and gateways are killed with `kill -9`."""

import os
import signal

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.ui.conftest import Scene, begun, done, say, set_up, words_of

LONG = {"Most_tokens": "240", "Seed": "31"}
SAMPLING = {"max_tokens": 240, "seed": 31}


async def opened(context: BrowserContext, url: str, title: str) -> Page:
    """Opens a conversation in a window of another gateway: its origin differs, so nothing of the browser's is known."""
    window = await context.new_page()
    await window.goto(f"{url}/")
    await window.get_by_role("complementary").get_by_role("button", name=title, exact=True).click()
    await begun(window)
    return window


async def kill_writer(scene: Scene, page: Page) -> None:
    """Kills the worker that writes the page's last answer."""
    job = await page.locator(".assistant").last.get_attribute("data-id")
    async with httpx.AsyncClient(base_url=scene.url) as http:
        holder = (await http.get(f"/v1/jobs/{job}")).json()["worker"]
        workers = (await http.get("/v1/cluster")).json()["workers"]
    os.kill(next(each["pid"] for each in workers if each["id"] == holder), signal.SIGKILL)


async def test_two_windows_read_one_stream_from_two_gateways(context: BrowserContext, page: Page, scene: Scene) -> None:
    other = await scene.fleet.gateway()
    await set_up(page, **LONG)
    await say(page, "read me twice")
    await begun(page)
    window = await opened(context, other.url, "read me twice")
    await done(page)
    await done(window)
    whole = await scene.answer("read me twice", **SAMPLING)
    assert await words_of(page) == await words_of(window) == whole.split()
    await other.kill()


@pytest.mark.ui
async def test_worker_and_gateway_are_killed_while_two_windows_read(
    context: BrowserContext, page: Page, scene: Scene
) -> None:
    await scene.enough_workers()
    other = await scene.fleet.gateway()
    await set_up(page, **LONG)
    await say(page, "kill them all")
    await begun(page)
    window = await opened(context, other.url, "kill them all")
    await kill_writer(scene, page)
    await other.kill()
    await expect(window.locator(".assistant [role=status]")).to_contain_text("connection lost")
    again = await scene.fleet.gateway(port=other.url.rpartition(":")[2])
    whole = (await scene.answer("kill them all", **SAMPLING)).split()
    for each in (page, window):
        await done(each)
        await expect(each.locator(".story")).to_contain_text("0 lost, 0 repeated")
        await expect(each.locator(".md .seam")).to_have_count(1)
        assert await words_of(each) == whole
    await again.kill()
