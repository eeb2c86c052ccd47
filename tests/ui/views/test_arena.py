"""Two to four models answer one question: side by side by their names, or blindly with votes for a leaderboard."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from millstream.common.job import ModelName
from tests.ui.conftest import MODEL, OTHER, Scene, say

pytestmark = pytest.mark.ui
MORE = ("gamma", "delta")
VOTES = {"left": "Left is better", "right": "Right is better", "tie": "Tie", "both_bad": "Both are bad"}


@pytest_asyncio.fixture(loop_scope="session")
async def four(page: Page, scene: Scene) -> AsyncIterator[list[str]]:
    """Four models, each with a worker, in the arena of the page."""
    workers = await asyncio.gather(*(scene.worker(model) for model in MORE))
    await page.goto(f"{scene.url}/#/arena")
    yield [MODEL, OTHER, *MORE]
    for each in workers:
        each.signal(signal.SIGKILL)
        await each.wait()
    for model in MORE:
        await scene.forget(ModelName(model))


async def all_done(page: Page, answers: int) -> None:
    await expect(page.locator(".columns .assistant[data-state=done]")).to_have_count(answers)


async def votes(scene: Scene) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=scene.url) as http:
        return [json.loads(line) for line in (await http.get("/v1/arena/votes.jsonl")).text.splitlines()]


async def test_four_models_answer_side_by_side_and_each_has_its_figures(
    page: Page, scene: Scene, four: list[str]
) -> None:
    await page.get_by_role("tab", name="Side by side").click()
    choices = page.locator("select[aria-label^=Model]")
    await expect(choices).to_have_count(2)
    for count in (3, 4):
        await page.get_by_role("button", name="Add a model").click()
        await expect(choices).to_have_count(count)
    await expect(page.get_by_role("button", name="Add a model")).to_have_count(0)
    for at, model in enumerate(four):
        await page.get_by_label(f"Model {at + 1}").select_option(model)
    for question in ("hello", "and again"):
        await say(page, f"script: {json.dumps({'text': f'{question} to all'})}")
        await expect(page.locator(".columns .assistant", has_text=f"{question} to all")).to_have_count(4)
    await all_done(page, 8)
    columns = page.locator(".columns > div")
    for at, model in enumerate(four):
        await expect(columns.nth(at).locator("b").first).to_have_text(model)
        await expect(columns.nth(at).locator(".assistant .facts").first).to_contain_text("first token")
        job = await columns.nth(at).locator(".assistant").last.get_attribute("data-id")
        async with httpx.AsyncClient(base_url=scene.url) as http:
            assert (await http.get(f"/v1/jobs/{job}")).json()["model"] == model
    await page.get_by_role("button", name="Remove a model").click()
    await expect(columns).to_have_count(3)


async def test_all_columns_stop_at_once(page: Page, four: list[str]) -> None:
    await page.get_by_role("tab", name="Side by side").click()
    await say(page, "for ever")
    await expect(page.locator(".columns .assistant .md")).to_have_count(2)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".columns .assistant[data-state=stopped]")).to_have_count(2)


async def test_a_battle_names_nobody_before_the_vote(page: Page, four: list[str]) -> None:
    await say(page, 'script: {"text": "guess who"}')
    await all_done(page, 2)
    battle = page.locator(".panel", has=page.locator(".columns"))
    for _ in range(2):
        assert not [model for model in four if model in await battle.inner_html()]
        await expect(battle.get_by_role("link")).to_have_count(0)  # a job's life would name its model
        await say(page, 'script: {"text": "still a secret"}')
        await expect(battle.get_by_role("button", name="Tie")).to_be_visible()
    await battle.get_by_role("button", name="Tie").click()
    told = battle.get_by_role("status").filter(has_text="Your vote counts")
    await expect(told).to_be_visible()
    assert len([model for model in four if model in await told.inner_text()]) == 2
    assert await battle.locator(".columns b").all_inner_texts() != ["Model A", "Model B"]
    await expect(battle.get_by_role("link", name="life").first).to_be_visible()


@pytest.mark.parametrize("winner", VOTES)
async def test_every_kind_of_vote_is_stored_with_its_conversation(
    page: Page, scene: Scene, four: list[str], winner: str
) -> None:
    before = len(await votes(scene))
    question = f'script: {{"text": "{winner} it is"}}'
    await say(page, question)
    await page.get_by_role("button", name=VOTES[winner]).click()
    told = await page.get_by_role("status").filter(has_text="Your vote counts").inner_text()
    _, left, right, _ = re.split(r"counts\. | was left, | right\.", told)
    after = await votes(scene)
    assert len(after) == before + 1
    vote = after[-1]
    assert (vote["left"]["model"], vote["right"]["model"], vote["winner"]) == (left, right, winner)
    assert vote["blind"] and vote["messages"] == [{"role": "user", "content": question}]
    assert vote["left"]["answer"].strip() == vote["right"]["answer"].strip() == f"{winner} it is"


async def test_the_leaderboard_has_intervals_and_its_votes_are_exported(
    page: Page, scene: Scene, four: list[str], tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=scene.url) as http:
        for _ in range(5):
            sides = {"left": {"model": MORE[0]}, "right": {"model": MORE[1]}}
            await http.post("/v1/arena/votes", json={**sides, "winner": "left"})
        ranked = (await http.get("/v1/arena/leaderboard")).json()["data"]
    await page.reload()
    rows = page.locator(".board tbody tr")
    await expect(rows).to_have_count(len(ranked))
    shown = [await rows.nth(at).locator("td").all_inner_texts() for at in range(len(ranked))]
    for at, (cells, each) in enumerate(zip(shown, ranked, strict=True)):
        low, high = (float(bound.replace(",", "")) for bound in re.split(r" \W ", cells[3]))
        assert cells[:2] == [str(at + 1), each["model"]] and cells[4] == str(each["wins"])
        assert low < float(cells[2].replace(",", "")) < high
    names = [cells[1] for cells in shown]
    assert names.index(MORE[0]) < names.index(MORE[1])
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export votes").click()
    await (await download.value).save_as(tmp_path / "votes.jsonl")
    saved = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert saved == await votes(scene) and len(saved) >= 5
