"""Jobs that ended, refused writes, fairness and usage are shown as tables, and as plots that say the same."""

import re
import time

import pytest
from playwright.async_api import Page, expect

from millstream.common.broker import keys, workers
from millstream.common.broker.workers import evict_now
from millstream.common.chunk import Seq
from millstream.common.job import ModelName, WorkerId
from tests.harness.queue_site import MODEL as SIMULATED
from tests.ui.conftest import OTHER, Scene, done, say

TODAY = int(time.time() // 86400)


async def test_jobs_that_ended_are_listed_by_their_end_and_lead_to_their_life(page: Page, scene: Scene) -> None:
    await say(page, 'script: {"text": "soon over"}')
    await done(page)
    id = await page.locator(".assistant").last.get_attribute("data-id")
    await say(page, 'script: {"text": "half a", "error": {"message": "The mill burnt down."}}')
    await expect(page.get_by_role("alert")).to_contain_text("burnt down")
    await page.goto(f"{scene.url}/#/cluster")
    ended = page.locator(".ended")
    await expect(ended.locator("tbody tr").first).to_contain_text("failed")
    await ended.get_by_label("State").select_option("finished")
    mine = ended.locator(f"a[href$='{id}']")
    await expect(mine).to_be_visible()
    await expect(ended.locator("td", has_text="failed")).to_have_count(0)
    await ended.get_by_label("Model").select_option(OTHER)
    await expect(mine).to_have_count(0)
    await ended.get_by_label("Model").select_option("")
    await ended.get_by_label("Tenant").fill("nobody")
    await page.keyboard.press("Enter")
    await expect(ended).to_contain_text("None is kept.")
    await ended.get_by_label("Tenant").fill("")
    await page.keyboard.press("Enter")
    await mine.click()
    await expect(page.locator(".life")).to_contain_text("finished")


@pytest.mark.ui
async def test_very_many_jobs_that_ended_come_page_by_page(page: Page, scene: Scene) -> None:
    await scene.site.beat("worker-of-old", slots="50")
    await scene.site.put(*(f"old-{at:02}" for at in range(45)), tenant="of-old")
    for claimed in await scene.site.claim("worker-of-old", 45):
        await scene.site.finish("worker-of-old", claimed)
    await page.goto(f"{scene.url}/#/cluster")
    ended = page.locator(".ended")
    await ended.get_by_label("Tenant").fill("of-old")
    await page.keyboard.press("Enter")
    for rows in (20, 40, 45):
        await expect(ended.locator("tbody tr")).to_have_count(rows)
        if rows < 45:
            await ended.get_by_role("button", name="More").click()
    await expect(ended.get_by_role("button", name="More")).to_have_count(0)
    await scene.forget(SIMULATED)


@pytest.mark.ui
async def test_refused_writes_stand_beside_their_worker(page: Page, scene: Scene) -> None:
    await scene.site.beat("worker-zombie", slots="1")
    await scene.site.put("job-of-a-zombie")
    (claimed,) = await scene.site.claim("worker-zombie")
    await evict_now(scene.broker, SIMULATED, WorkerId("worker-zombie"), 9)
    late = workers.JobStep(claimed.id, claimed.lease, Seq(1), [b'{"start":{"prompt_tokens":3}}'])
    await workers.step(scene.broker, SIMULATED, WorkerId("worker-zombie"), [late])
    await page.goto(f"{scene.url}/#/cluster")
    await expect(page.locator(".fenced")).to_contain_text("worker-zombie (1)")
    await scene.site.beat("worker-zombie", slots="1")
    row = page.locator("tr", has=page.locator("td", has_text=re.compile("^worker-zombie$")))
    await expect(row.locator("td").nth(9)).to_have_text("1")
    await expect(page.locator(".fenced")).to_have_count(0)
    await scene.forget(SIMULATED)


@pytest.mark.ui
async def test_fairness_is_a_plot_with_its_table(page: Page, scene: Scene) -> None:
    await scene.site.beat("worker-slow", slots="1")
    await scene.site.put("fair-0", "fair-1", tenant="north")
    await scene.site.put("fair-2", "fair-3", tenant="south")
    await page.goto(f"{scene.url}/#/cluster")
    fairness = page.locator(".fairness")
    for tenant in ("north", "south"):
        await expect(fairness.locator("tr", has_text=f"{tenant} · default · {SIMULATED}")).to_be_visible()
    await expect(fairness.locator("svg.plot polyline")).to_have_count(2)
    await page.wait_for_function(
        "() => document.querySelector('.fairness polyline').getAttribute('points').includes(' ')"
    )
    await scene.forget(SIMULATED)


async def used(scene: Scene, model: str, day: int, tenant: str, tokens: int) -> None:
    name = keys.usage(ModelName(model), day)
    for what, count in {"jobs": 1, "prompt": tokens // 2, "completion": tokens - tokens // 2}.items():
        await scene.broker.redis.hset(name, f"{tenant} {what}", str(count))  # type: ignore[misc]


@pytest.mark.ui
async def test_usage_is_shown_by_day_by_model_and_by_tenant(page: Page, scene: Scene) -> None:
    for day, tenant, tokens in ((TODAY - 4, "north", 3000), (TODAY - 2, "south", 1000), (TODAY - 4, "south", 500)):
        await used(scene, OTHER, day, tenant, tokens)
    await page.goto(f"{scene.url}/#/usage")
    days = page.locator(".days")
    await expect(days.locator("svg.plot > g").nth(3)).to_be_attached()
    await days.get_by_label("Parted by").select_option("tenant")
    await expect(days.locator("rect title", has_text="north: 3,000")).to_have_count(1)
    await expect(days.locator("figcaption")).to_contain_text("south")
    await days.get_by_text("As a table").click()
    old = time.strftime("%Y-%m-%d", time.gmtime((TODAY - 4) * 86400))
    quiet = time.strftime("%Y-%m-%d", time.gmtime((TODAY - 3) * 86400))
    row = days.locator("tr", has_text=old)
    await expect(row).to_contain_text("3,000")
    await expect(row).to_contain_text("500")
    await expect(days.locator("tr", has_text=quiet)).to_be_visible()
    shares = page.locator(".share-tenant tr", has_text="south")
    await expect(shares).to_contain_text("1,500")
    for day in range(TODAY - 4, TODAY):
        await scene.broker.redis.delete(keys.usage(ModelName(OTHER), day))


@pytest.mark.ui
async def test_what_is_drawn_has_more_colours_than_there_are_as_others(page: Page, scene: Scene) -> None:
    for at in range(9):
        await used(scene, OTHER, TODAY - 1, f"tenant-{at}", 1000 - at)
    await page.goto(f"{scene.url}/#/usage")
    await page.locator(".days").get_by_label("Parted by").select_option("tenant")
    await expect(page.locator(".days figcaption")).to_contain_text("others")
    await expect(page.locator(".days figcaption > span")).to_have_count(6)
    await scene.broker.redis.delete(keys.usage(ModelName(OTHER), TODAY - 1))
