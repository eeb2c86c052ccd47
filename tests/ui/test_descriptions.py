"""The API's description in a browser: it needs no other host."""

import pytest
from playwright.async_api import Browser, expect

from tests.ui.conftest import Scene

pytestmark = pytest.mark.ui


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_description_shows_every_route_and_hears_of_nobody_else(
    browser: Browser, scene: Scene, path: str
) -> None:
    """ReDoc's menu ends with a picture of its makers' host, which the policy keeps out."""
    context = await browser.new_context()
    answered: set[str] = set()
    context.on("requestfinished", lambda request: answered.add(request.url.split("/")[2].partition(":")[0]))
    page = await context.new_page()
    await page.goto(f"{scene.url}{path}")
    await expect(page.get_by_role("heading", name="Millstream").first).to_be_visible()
    await expect(page.get_by_text("/v1/chat/completions").first).to_be_visible()
    await context.close()
    assert answered == {"127.0.0.1"}
