"""Batches in the browser: a file goes up, is watched while it is worked on, and its answers and errors come down."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.ui.conftest import MODEL, Scene

pytestmark = pytest.mark.ui


@pytest_asyncio.fixture(loop_scope="session")
async def batches(page: Page, scene: Scene) -> AsyncIterator[Page]:
    """The view, and a background process that works on what is uploaded."""
    background = await scene.fleet.background()
    await page.goto(f"{scene.url}/#/work")
    yield page
    await background.stop()


def line(custom_id: str, **body: Any) -> str:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": custom_id}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked})


async def upload(page: Page, name: str, lines: list[str]) -> None:
    text = "".join(f"{each}\n" for each in lines).encode()
    await page.get_by_label("Upload").set_input_files({"name": name, "mimeType": "application/jsonl", "buffer": text})
    await page.get_by_role("button", name="Start a batch").click()
    await expect(page.locator("td", has_text=name)).to_be_visible()


def newest(page: Page) -> Locator:
    """The row of the batch that was made last."""
    return page.locator("section", has=page.get_by_role("heading", name="Batches")).locator("tbody tr").first


async def downloaded(page: Page, button: Locator, file: Path) -> list[dict[str, Any]]:
    async with page.expect_download() as download:
        await button.click()
    await (await download.value).save_as(file)
    return [json.loads(each) for each in file.read_text().splitlines()]


async def test_a_batch_goes_up_is_watched_and_its_answers_come_down(batches: Page, tmp_path: Path) -> None:
    lines = [line(f"line {at}", max_tokens=60) for at in range(60)]
    await upload(batches, "sixty.jsonl", [*lines, line('script: {"error": {"message": "The mill burnt down."}}')])
    row = newest(batches)
    await expect(row).to_contain_text("ends in about")
    bar = row.get_by_role("progressbar")
    assert await bar.get_attribute("aria-valuemax") == "61"
    assert 0 < int(await bar.get_attribute("aria-valuenow") or 0) < 61
    await expect(row).to_contain_text("completed")
    await expect(row).to_contain_text("61 / 61")
    await expect(bar).to_have_attribute("aria-valuenow", "61")
    await expect(row.get_by_role("button", name="Cancel")).to_have_count(0)
    answers = await downloaded(batches, row.get_by_role("button", name="Answers"), tmp_path / "answers.jsonl")
    assert {each["custom_id"] for each in answers} == {f"line {at}" for at in range(60)}
    assert all(each["response"]["body"]["choices"][0]["message"]["content"] for each in answers)
    (wrong,) = await downloaded(batches, row.get_by_role("button", name="Errors"), tmp_path / "errors.jsonl")
    assert "The mill burnt down." in json.dumps(wrong)
    own = batches.locator("tr", has=batches.locator("td", has_text="sixty.jsonl"))
    again = await downloaded(batches, own.get_by_role("button", name="Download"), tmp_path / "in.jsonl")
    assert [each["custom_id"] for each in again][:60] == [f"line {at}" for at in range(60)]
    await own.get_by_role("button", name="Delete").click()
    await expect(own).to_have_count(0)


async def test_a_batch_is_cancelled_and_keeps_what_it_has(batches: Page, tmp_path: Path) -> None:
    await upload(batches, "endless.jsonl", [line(f"line {at}", max_tokens=200) for at in range(200)])
    row = newest(batches)
    await expect(row).to_contain_text("in_progress")
    await row.get_by_role("button", name="Cancel").click()
    await expect(row).to_contain_text("cancelled")
    await expect(row.get_by_role("button", name="Cancel")).to_have_count(0)
    undone = await downloaded(batches, row.get_by_role("button", name="Errors"), tmp_path / "errors.jsonl")
    assert {each["error"]["code"] for each in undone if each["error"]} == {"batch_cancelled"}


async def test_a_file_that_is_no_batch_is_refused_in_words(batches: Page) -> None:
    await upload(batches, "poem.jsonl", ["a mill by the stream"])
    row = newest(batches)
    await expect(row).to_contain_text("failed")
    await expect(row).to_contain_text("Line 1: ")
