"""The buttons of operators do what they say, and lists go on beyond what they show at first."""

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from millstream.common.broker.models.directory import census
from tests.harness.support import wait_until
from tests.ui.conftest import Scene

pytestmark = pytest.mark.ui
THIRD = "mills/gamma 2"


def rows(page: Page, heading: str) -> Locator:
    return page.locator("section", has=page.get_by_role("heading", name=heading, exact=True)).locator("tbody tr")


async def alive(scene: Scene) -> int:
    """Returns how many live workers serve the third model."""
    return sum(worker.alive for model in await census(scene.broker) if model.name == THIRD for worker in model.workers)


async def test_a_model_is_unloaded_and_loaded_and_its_worker_drained(page: Page, scene: Scene) -> None:
    worker = await scene.worker(THIRD)

    async def serving() -> bool:
        return await alive(scene) == 1

    async def not_serving() -> bool:
        return await alive(scene) == 0

    await page.goto(f"{scene.url}/#/cluster")
    model = rows(page, "Models").filter(has_text=THIRD)
    await model.get_by_role("button", name="Unload").click()
    await wait_until(not_serving, within=60, what="the model is unloaded")
    await model.get_by_role("button", name="Load", exact=True).click()
    await wait_until(serving, within=60, what="the model is loaded again")
    row = rows(page, "Workers").filter(has_text=THIRD).filter(has=page.get_by_role("button", name="Drain"))
    await row.get_by_role("button", name="Drain").click()
    await wait_until(not_serving, within=60, what="the worker is drained")
    await worker.stop()
    await page.goto(f"{scene.url}/#/chat")  # also while a model is known that nobody serves
    await expect(page.locator(".composer textarea")).to_be_visible()


async def test_a_list_goes_on_beyond_what_it_shows_at_first(page: Page, scene: Scene) -> None:
    async with httpx.AsyncClient(base_url=scene.url, timeout=20) as http:
        made: list[str] = []
        for at in range(55):
            file = (f"many-{at}.jsonl", b"{}\n", "application/jsonl")
            made.append((await http.post("/v1/files", data={"purpose": "batch"}, files={"file": file})).json()["id"])
        await page.goto(f"{scene.url}/#/work")
        listed = rows(page, "Files")
        await expect(listed).to_have_count(50)
        await page.locator("section", has_text="Files").get_by_role("button", name="More").last.click()
        await expect(listed.filter(has_text="many-0.jsonl")).to_have_count(1)
        for id in made:
            await http.delete(f"/v1/files/{id}")
        await expect(listed.filter(has_text="many-")).to_have_count(0)
