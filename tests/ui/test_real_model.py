"""A real small model is asked in the page: its answer comes token by token, also when its worker is killed."""

import asyncio
import signal

import pytest
from playwright.async_api import Page, expect

from millstream.common.job import ModelName
from tests.ui.conftest import Scene, begun, done, say, set_up, words_of
from tests.ui.test_two_gateways import kill_writer

NAME = "smollm2-135m-instruct"
REAL = {"engine": "transformers", "threads": "1", "slots": "2"}
QUESTION = "Write a long story about a water mill and its miller."


@pytest.mark.ui
async def test_a_real_models_answer_survives_kill_9_of_its_worker(page: Page, scene: Scene) -> None:
    workers = await asyncio.gather(*(scene.worker("smollm2", **REAL) for _ in range(2)))
    await page.get_by_label("Model").locator(f"option[value={NAME}]").wait_for(state="attached")
    await page.get_by_label("Model").select_option(NAME)
    await set_up(page, Most_tokens="90", Seed="3", System_prompt="You are a friendly teller of stories.")
    await say(page, QUESTION)
    await begun(page, words=12)
    await kill_writer(scene, page)
    await done(page)
    await expect(page.locator(".story")).to_contain_text("0 lost, 0 repeated")
    await expect(page.locator(".md .seam")).to_have_count(1)
    seamed = await words_of(page)
    await page.get_by_role("button", name="Answer again").click()
    await expect(page.get_by_text("2/2")).to_be_visible()
    await done(page)
    assert await words_of(page) == seamed and len(seamed) > 30
    for each in workers:
        each.signal(signal.SIGKILL)
        await each.wait()
    await scene.forget(ModelName(NAME))
