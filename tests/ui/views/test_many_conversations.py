"""Very many conversations are kept: the newest are listed, and older ones when they are wanted."""

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.ui.conftest import Scene

pytestmark = pytest.mark.ui
MANY = 230  # more than are listed at first


async def test_older_conversations_are_listed_when_they_are_wanted(page: Page, scene: Scene) -> None:
    async with httpx.AsyncClient(base_url=scene.url, timeout=60) as http:
        ids = [await made(http, at) for at in range(MANY)]
        await page.reload()
        listed = page.get_by_role("complementary").get_by_role("listitem")
        await expect(listed).to_have_count(200)
        older = page.get_by_role("button", name="Older conversations")
        await older.click()
        await expect(listed).to_have_count(MANY)
        await expect(older).to_have_count(0)
        await listed.last.get_by_role("button", name="talk 0", exact=True).click()
        await expect(page.locator(".message.user .body")).to_have_text("said long ago")
        for id in ids:
            await http.delete(f"/v1/conversations/{id}")


async def made(http: httpx.AsyncClient, at: int) -> str:
    """Keeps a conversation as the page does, and returns its id."""
    metadata = {
        "page": "chat",
        "talk": f"talk-{at}",
        "title": f"talk {at}",
        "changed": str(1000 + at),
        "model": "alpha",
    }
    attached = {"page": 1, "id": f"message-{at}", "parent": None, "at": 0}
    content = [{"type": "input_text", "text": "said long ago"}]
    item = {"type": "message", "role": "user", "content": content, "attached": attached}
    kept = await http.post("/v1/conversations", json={"metadata": metadata, "items": [item]})
    assert kept.status_code == 200, kept.text
    return str(kept.json()["id"])
