"""Nothing that a model, a worker or a tenant writes becomes a part of the page's code."""

import json

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.queue_site import MODEL as SIMULATED
from tests.ui.conftest import Scene, done, say, window

ATTACKS = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg onload='window.hit = 1'><animate onbegin='window.hit = 1' attributeName=x dur=1s>",
    "[click](javascript:window.hit=1) <a href='javascript:window.hit=1'>click</a>",
    "<iframe srcdoc='<script>parent.hit = 1</script>'></iframe><object data='javascript:hit=1'></object>",
    "<form action='javascript:window.hit=1'><button formaction='javascript:window.hit=1'>click</button></form>",
    "<details open ontoggle='window.hit = 1'>x</details><math><mtext><style><img src=x onerror=hit=1></style>",
    "![x](http://192.0.2.1/leak.png) <link rel=stylesheet href='//192.0.2.1/x.css'><base href='//192.0.2.1/'>",
]
FORBIDDEN = ".md :is(script, img, iframe, object, form, button, input, style, link, base), .md [onerror], .md [onload]"


async def test_what_a_model_writes_runs_nothing(browser: Browser, scene: Scene) -> None:
    async with window(browser) as context:
        page = await context.new_page()
        await page.goto(f"{scene.url}/")
        await attack_all(page)


async def attack_all(page: Page) -> None:
    for attack in ATTACKS:
        script = {"rate": 0, "text": attack, "reasoning": attack, "tool_calls": [{"name": "x", "arguments": attack}]}
        await say(page, f"script: {json.dumps(script)}")
        await done(page)
    assert await page.locator(FORBIDDEN).count() == 0
    hrefs = await page.locator(".md a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert not [href for href in hrefs if href and not href.startswith(("http", "mailto:"))]
    for link in await page.locator(".md a").all():
        if not await link.get_attribute("href"):
            await link.click(force=True)
    assert await page.evaluate("window.hit") is None


@pytest.mark.ui
async def test_names_of_models_and_tenants_are_only_text(page: Page, scene: Scene) -> None:
    tag = "<img/src=x/onerror=window.hit=1>"
    await scene.site.beat("worker-<b>x</b>", host=tag, version=tag)
    await scene.site.put("job-<b>1</b>", tenant=tag)
    await page.goto(f"{scene.url}/#/cluster")
    await expect(page.get_by_text("worker-<b>x</b>").first).to_be_visible()
    await expect(page.locator("td", has_text=tag).first).to_be_visible()
    await page.locator(".queue a").first.click()
    assert await page.locator("main img, main td b b").count() == 0
    assert await page.evaluate("window.hit") is None
    await scene.forget(SIMULATED)


async def test_the_page_allows_no_script_but_its_own_files(scene: Scene) -> None:
    async with httpx.AsyncClient(base_url=scene.url) as http:
        for path in ("/", "/ui/app.js"):
            policy = (await http.get(path)).headers["content-security-policy"]
            assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy
        index = (await http.get("/")).text
    assert "<style" not in index and index.count("<script") == 1 and " on" not in index.replace(" once", "")


@pytest.mark.parametrize("path", ["/ui/../route.py", "/ui/%2e%2e/route.py", "/ui/nothing.js", "/ui/vendor"])
async def test_nothing_but_the_files_is_served(scene: Scene, path: str) -> None:
    async with httpx.AsyncClient(base_url=scene.url) as http:
        assert (await http.get(path)).status_code == 404
