"""Jobs that gave up their slots are listed with the workers on which they went on."""

import asyncio
import signal

import httpx
import pytest
from playwright.async_api import Page, expect

from millstream.common.job import ModelName
from tests.harness.support import wait_until
from tests.ui.conftest import Scene

pytestmark = pytest.mark.ui
NAME = "narrow"


async def running(scene: Scene, tier: str) -> bool:
    async with httpx.AsyncClient(base_url=scene.url) as http:
        jobs = (await http.get("/v1/jobs", params={"model": NAME, "state": "running"})).json().get("data", [])
    return [job["tier"] for job in jobs] == [tier]


async def test_a_job_gives_way_to_an_urgent_one_and_goes_on_elsewhere(page: Page, scene: Scene) -> None:
    first = await scene.worker(NAME, slots="1")
    slow = asyncio.create_task(scene.answer("slow", model=NAME, max_tokens=1500, service_tier="flex"))
    await wait_until(lambda: running(scene, "flex"), within=30, what="the slow job runs")
    urgent = asyncio.create_task(scene.answer("urgent", model=NAME, max_tokens=1500, service_tier="priority"))
    await page.goto(f"{scene.url}/#/cluster")
    row = page.locator(".preempted tbody tr", has_text=NAME)
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("queued")
    await expect(row).to_contain_text("→ …")
    second = await scene.worker(NAME, slots="1")
    await expect(row).to_contain_text("running")
    await expect(row).to_contain_text("chunks, ")
    await row.get_by_role("link").click()
    await expect(page.locator(".life .strip .lease")).to_have_count(2)
    for each in (slow, urgent):
        each.cancel()
    await asyncio.gather(slow, urgent, return_exceptions=True)
    for part in (first, second):
        part.signal(signal.SIGKILL)
        await part.wait()
    await scene.forget(ModelName(NAME))
