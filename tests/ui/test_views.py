"""The other views: who may enter, what the cluster does, which model is better."""

import json
import re

import pytest
from playwright.async_api import BrowserContext, Page, expect

from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from tests.harness.serving import serving
from tests.ui.conftest import OTHER, Scene, done, say, set_up


async def test_a_gateway_with_keys_asks_for_one_and_keeps_it_for_the_tab(context: BrowserContext, scene: Scene) -> None:
    settings = GatewaySettings(redis_url=scene.broker.url, port=0, drain=0.5, api_keys=["acme:sk-acme-secret"])
    async with serving(settings, connect) as url:
        await enter_and_leave(await context.new_page(), url)


async def enter_and_leave(page: Page, url: str) -> None:
    await page.goto(f"{url}/")
    await page.get_by_label("API key").fill("wrong")
    await page.get_by_role("button", name="Enter").click()
    await expect(page.get_by_role("alert")).to_contain_text("not accepted")
    await page.get_by_label("API key").fill("sk-acme-secret")
    await page.get_by_role("button", name="Enter").click()
    await page.get_by_placeholder("Ask something").wait_for()
    kept = "() => [sessionStorage, localStorage].map(s => Object.values(s).some(v => v.includes('sk-acme-secret')))"
    assert await page.evaluate(kept) == [True, False]
    await page.goto(f"{url}/#/keys")
    await expect(page.get_by_text("Only for administrators.")).to_be_visible()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("API key")).to_be_visible()


@pytest.mark.ui
async def test_a_cluster_without_workers_says_what_is_missing_and_goes_on(
    context: BrowserContext, scene: Scene
) -> None:
    page = await context.new_page()
    empty = json.dumps({"object": "list", "data": []})
    await page.route("**/v1/models", lambda route: route.fulfill(body=empty, content_type="application/json"))
    await page.goto(f"{scene.url}/")
    await expect(page.get_by_text("No worker yet")).to_be_visible()
    await expect(page.get_by_text("millstream worker --model smollm2-135m-instruct")).to_be_visible()
    await page.unroute("**/v1/models")
    await page.get_by_placeholder("Ask something").wait_for()


async def test_the_cluster_shows_a_waiting_job_why_it_waits_and_its_life(page: Page, scene: Scene) -> None:
    async with scene.busy(OTHER, jobs=2):
        await page.goto(f"{scene.url}/#/cluster")
        row = page.locator(".queue tr", has_text="all slots are busy")
        await row.wait_for()
        await expect(row.locator("td").nth(3)).to_have_text("1")  # its place
        running = await page.locator(".queue tr", has_text="running").first.locator("a").get_attribute("href") or ""
        await expect(page.locator(f".cell.on[title='{running.rpartition('/')[2]}']")).to_be_visible()
        await expect(page.locator("section", has_text="Models").first).to_contain_text("simulated exact")
        await expect(page.locator(".cell.on").first).to_be_visible()
        await row.locator("a").click()
        life = page.locator(".life")
        await expect(life).to_contain_text("queued")
        await expect(life.locator(".strip")).to_contain_text("waited")
        await life.get_by_role("button", name="Cancel").click()
        await expect(life).to_contain_text("cancelled")
        await life.get_by_text("In Redis").click()
        await expect(life.locator("pre.line").first).to_contain_text(f"redis-cli HGETALL 'ms:{{{OTHER}}}:job:")


async def test_a_vote_in_a_blind_battle_counts(page: Page, scene: Scene) -> None:
    await page.goto(f"{scene.url}/#/arena")
    await say(page, 'script: {"text": "the same"}')
    await page.get_by_role("button", name="Left is better").click()
    told = page.get_by_role("status").filter(has_text="Your vote counts")
    await told.wait_for()
    _, left, right, _ = re.split(r"counts\. | was left, | right\.", await told.inner_text())
    board = page.locator(".board tbody tr")
    await expect(board.filter(has_text=left).locator("td").nth(4)).not_to_have_text("0")
    await expect(board.filter(has_text=right).locator("td").nth(5)).not_to_have_text("0")
    await expect(page.get_by_role("button", name="Export votes")).to_be_visible()
    await page.get_by_role("button", name="Another battle").click()
    await expect(page.locator(".columns b").first).to_have_text("Model A")


# What reaches over the right edge, but for what can be scrolled to by itself.
TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, nav, pre, .columns"))
  .map((e) => e.outerHTML.slice(0, 80))"""


@pytest.mark.ui
async def test_it_speaks_chinese_in_the_dark_on_a_phone_by_keyboard(page: Page) -> None:
    await page.get_by_role("button", name="中文").click()
    await expect(page.get_by_role("link", name="对话")).to_be_visible()
    assert await page.evaluate("document.documentElement.lang") == "zh"
    await page.get_by_role("button", name="明暗").click()
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
    await page.get_by_placeholder("请输入问题").fill('script: {"text": "' + "wide " * 40 + '"}')
    await page.keyboard.press("Enter")
    await done(page)
    await page.set_viewport_size({"width": 360, "height": 640})
    assert await page.evaluate(TOO_WIDE) == []
    await page.get_by_role("button", name="对话列表").click()
    await expect(page.get_by_role("complementary")).to_be_visible()
    for key, shown in {"Alt+3": ".figures", "Alt+5": ".days svg.plot"}.items():
        await page.keyboard.press(key)
        await page.locator(shown).first.wait_for()
        assert await page.evaluate(TOO_WIDE) == []


@pytest.mark.ui
async def test_batches_usage_and_keys_are_looked_at(page: Page, scene: Scene) -> None:
    await set_up(page, Most_tokens="5")
    await say(page, "count me")
    await done(page)
    await page.goto(f"{scene.url}/#/usage")
    await expect(page.locator("svg.plot")).to_be_visible()
    await expect(page.locator("td", has_text="alpha").first).to_be_visible()
    await page.goto(f"{scene.url}/#/work")
    line = {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "alpha", "messages": []},
    }
    await page.get_by_label("Upload").set_input_files(
        {"name": "in.jsonl", "mimeType": "application/jsonl", "buffer": json.dumps(line).encode()}
    )
    await page.get_by_role("button", name="Start a batch").click()
    await expect(page.get_by_role("progressbar")).to_be_visible()
    await expect(page.locator("td", has_text="in.jsonl")).to_be_visible()
    await page.goto(f"{scene.url}/#/keys")
    await expect(page.get_by_text("No key was made.")).to_be_visible()
