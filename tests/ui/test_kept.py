"""Conversations are kept on the gateway: found on another device, renamed, exported, deleted, and nobody else's."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from tests.harness.serving import serving
from tests.harness.support import wait_until
from tests.ui.conftest import MODEL, Scene, begun, done, say, set_up, window, words_of

LISTED = "/v1/conversations?limit=100"


@pytest_asyncio.fixture(loop_scope="session")
async def device(browser: Browser) -> AsyncIterator[Page]:
    """Another device: it has nothing of what the first one's browser knows."""
    async with window(browser) as opened:
        yield await opened.new_page()


def listed(page: Page, title: str) -> Locator:
    return page.get_by_role("complementary").get_by_role("button", name=title, exact=True)


async def kept(scene: Scene, title: str, messages: int) -> str:
    """Returns the id of a conversation when the gateway has all its messages, the answers whole."""
    async with httpx.AsyncClient(base_url=scene.url) as http:

        async def whole() -> str:
            for each in (await http.get(LISTED)).json()["data"]:
                items = (await http.get(f"/v1/conversations/{each['id']}/items?limit=100")).json()["data"]
                said = [item["attached"] for item in items if item["attached"]["id"] != "settings"]
                over = all(item["answer"]["state"] == "done" for item in said if "answer" in item)
                if each["metadata"]["title"] == title and over and len({item["id"] for item in said}) == messages:
                    return str(each["id"])
            return ""

        return await wait_until(whole, within=30, every=0.1, what=f"{title} is kept")


async def glance(page: Page, until: Locator, count: int = 1) -> None:
    """The user comes back to the page, which then looks at once, until something is to be seen so many times. Whoever
    else has it open looks too: what they send may pass each other on the way."""

    async def there() -> bool:
        browser = page.context.browser
        for each in [other for context in (browser.contexts if browser else []) for other in context.pages]:
            await each.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        return await until.count() == count

    await wait_until(there, within=30, every=0.3, what=f"{until} {count} times")


async def test_a_conversation_is_found_on_another_device_with_its_branches(
    page: Page, device: Page, scene: Scene
) -> None:
    await set_up(page, Most_tokens="5", System_prompt="Be brief.")
    await say(page, "where am I")
    await done(page)
    await page.get_by_role("button", name="Answer again").click()
    await expect(page.get_by_text("2/2")).to_be_visible()
    await done(page)
    await expect(page.get_by_role("complementary")).to_contain_text("found again with the same key")
    await kept(scene, "where am I", 3)
    await device.goto(f"{scene.url}/")
    await listed(device, "where am I").click()
    await expect(device.get_by_text("2/2")).to_be_visible()
    assert await words_of(device) == await words_of(page)
    await device.get_by_role("button", name="Earlier version").click()
    await page.get_by_role("button", name="Earlier version").click()
    assert await words_of(device) == await words_of(page)
    await device.get_by_role("button", name="Settings").click()
    await expect(device.get_by_label("System prompt")).to_have_value("Be brief.")
    await say(device, "and now")
    await done(device)
    await kept(scene, "where am I", 5)
    await glance(page, page.locator(".message"), 4)
    assert await words_of(device) == await words_of(page)


@pytest.mark.ui
async def test_an_answer_in_its_middle_is_read_on_by_another_device(page: Page, device: Page, scene: Scene) -> None:
    await set_up(page, Most_tokens="150", Seed="21")
    await say(page, "to be read elsewhere")
    await begun(page)
    await device.goto(f"{scene.url}/")
    await listed(device, "to be read elsewhere").click()
    await done(device)
    await done(page)
    whole = await scene.answer("to be read elsewhere", max_tokens=150, seed=21)
    assert await words_of(device) == await words_of(page) == whole.split()


@pytest.mark.ui
async def test_it_is_renamed_exported_and_deleted_everywhere(
    page: Page, device: Page, scene: Scene, tmp_path: Path
) -> None:
    await set_up(page, Most_tokens="5")
    await say(page, "old name")
    await done(page)
    await kept(scene, "old name", 2)
    await device.goto(f"{scene.url}/")
    await listed(device, "old name").click()
    await done(device)
    await page.get_by_role("button", name="Rename: old name").click()
    await page.get_by_label("Rename", exact=True).fill("new name")
    await page.keyboard.press("Enter")
    await kept(scene, "new name", 2)
    await glance(device, listed(device, "new name"))
    async with device.expect_download() as download:
        await device.get_by_role("button", name="Export: new name").click()
    await (await download.value).save_as(tmp_path / "talk.json")
    told = json.loads((tmp_path / "talk.json").read_text())
    answers = [each["answer"]["text"].split() for each in told["messages"].values() if each["role"] == "assistant"]
    assert told["title"] == "new name" and answers == [await words_of(page)]
    await device.get_by_role("button", name="Delete: new name").click()
    await expect(listed(device, "new name")).to_have_count(0)
    await glance(page, listed(page, "new name"), 0)
    await expect(page.locator(".message")).to_have_count(0)
    async with httpx.AsyncClient(base_url=scene.url) as http:
        assert (await http.get(LISTED)).json()["data"] == []


@pytest.mark.ui
async def test_one_that_is_deleted_in_mid_answer_does_not_come_back(page: Page, scene: Scene) -> None:
    await set_up(page, Most_tokens="5000")
    await say(page, "never mind")
    await begun(page)
    await page.get_by_role("button", name="Delete: never mind").click()
    await expect(listed(page, "never mind")).to_have_count(0)
    await page.reload()
    await page.get_by_placeholder("Ask something").wait_for()
    await expect(page.get_by_role("complementary")).to_contain_text("found again")
    await expect(listed(page, "never mind")).to_have_count(0)
    await expect(page.locator(".message")).to_have_count(0)


@asynccontextmanager
async def with_keys(scene: Scene, **settings: Any) -> AsyncIterator[str]:
    keys = ["acme:sk-acme", "other:sk-other"]
    given = GatewaySettings(redis_url=scene.broker.url, port=0, drain=0.5, api_keys=keys, **settings)
    async with serving(given, connect) as url:
        yield url


async def enter(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Enter").click()
    await page.get_by_placeholder("Ask something").wait_for()


async def test_a_tenant_sees_its_own_also_in_a_browser_that_another_has_used(
    context: BrowserContext, device: Page, scene: Scene
) -> None:
    async with with_keys(scene) as url:
        page = await context.new_page()
        await page.goto(f"{url}/")
        await enter(page, "sk-acme")
        await set_up(page, Most_tokens="5")
        await say(page, "a secret of acme")
        await done(page)
        await expect(page.get_by_role("complementary")).to_contain_text("found again")
        await device.goto(f"{url}/")
        await enter(device, "sk-acme")
        await listed(device, "a secret of acme").click()
        await done(device)
        await page.get_by_role("button", name="Log out").click()
        await enter(page, "sk-other")
        await expect(page.get_by_role("complementary")).to_contain_text("found again")
        await expect(page.get_by_text("a secret of acme")).to_have_count(0)
        await page.get_by_role("button", name="Log out").click()
        await enter(page, "sk-acme")
        await page.get_by_role("button", name="Delete: a secret of acme").click()
        await expect(listed(page, "a secret of acme")).to_have_count(0)


@pytest.mark.ui
async def test_a_gateway_that_keeps_nothing_says_so(context: BrowserContext, scene: Scene) -> None:
    @asynccontextmanager
    async def forgetful(settings: GatewaySettings) -> AsyncIterator[ClusterServices]:
        async with connect(settings) as services:
            yield replace(services, store=None)

    settings = GatewaySettings(redis_url=scene.broker.url, port=0, drain=0.5)
    async with serving(settings, forgetful) as url:
        page = await context.new_page()
        await page.goto(f"{url}/")
        await expect(page.get_by_role("complementary")).to_contain_text("lie in this browser alone")
        await set_up(page, Most_tokens="5")
        await say(page, "only here")
        await done(page)
        await page.reload()
        await done(page)
        await expect(listed(page, "only here")).to_be_visible()


@pytest.mark.ui
async def test_a_quota_that_is_used_up_is_told_in_its_words(context: BrowserContext, scene: Scene) -> None:
    async with with_keys(scene, max_stored=2) as url:
        page = await context.new_page()
        await page.goto(f"{url}/")
        await enter(page, "sk-other")
        await set_up(page, Most_tokens="5")
        await say(page, "too much")
        await done(page)
        await expect(page.get_by_role("complementary")).to_contain_text("The gateway does not keep all")
        await page.get_by_role("button", name="Delete: too much").click()
        await expect(listed(page, "too much")).to_have_count(0)


TAG = "<img src=x onerror='window.hit = 1'>"
HOSTILE: list[dict[str, Any]] = [
    {"id": "q", "parent": None, "at": 1},
    {
        "id": "a",
        "parent": "q",
        "at": 2,
        "answer": {"id": "../../keys", "state": TAG, "tools": [None, 5], "seams": [{}]},
    },
    {"id": "loop-a", "parent": "loop-b", "at": 3},
    {"id": "loop-b", "parent": "loop-a", "at": 4},
    {"id": "__proto__", "parent": None, "at": 5},
    {"id": 7, "parent": {}, "at": "x", "answer": 3},
]


@pytest.mark.ui
async def test_items_that_another_program_wrote_do_no_harm(page: Page, scene: Scene) -> None:
    metadata = {"page": "chat", "talk": "forged", "title": TAG, "model": MODEL, "leaf": "loop-a", "changed": "1"}
    items = [
        {"type": "message", "role": "assistant" if "answer" in each else "user", "content": TAG, "attached": each}
        for each in ({"page": 1, **each} for each in HOSTILE)
    ]
    async with httpx.AsyncClient(base_url=scene.url) as http:
        made = await http.post("/v1/conversations", json={"items": items, "metadata": metadata})
        assert made.status_code == 200, made.text
    await glance(page, listed(page, TAG))
    await listed(page, TAG).click()
    await expect(page.locator(".message.user .body").first).to_have_text(TAG)
    await expect(page.locator(".message")).to_have_count(2)
    assert await page.locator("main img").count() == 0
    assert await page.evaluate("window.hit") is None
