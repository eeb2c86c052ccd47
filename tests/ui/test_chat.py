"""Somebody talks with a model: the answer streams, and survives what happens to page, gateway and worker."""

import json

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.ui.conftest import MODEL, OTHER, PATIENCE, Scene, begun, done, say, set_up, text_of, words_of

LONG = {"Most_tokens": "150", "Seed": "11"}
SAMPLING = {"max_tokens": 150, "seed": 11}


async def test_an_answer_streams_with_its_figures(page: Page, scene: Scene) -> None:
    await set_up(page, Most_tokens="40", Seed="3")
    await say(page, "hello")
    await done(page)
    assert await words_of(page) == (await scene.answer("hello", max_tokens=40, seed=3)).split()
    facts = page.locator(".assistant .facts").first
    await expect(facts).to_contain_text("first token")
    await expect(facts).to_contain_text("tokens/s")
    await expect(facts).to_contain_text("40 tokens")


@pytest.mark.ui
async def test_markdown_thinking_and_tools_are_shown(page: Page) -> None:
    script = {
        "reasoning": "Let me see.",
        "text": "# Mills\n\n- one\n- two\n\n```py\nprint(1)\n```\n",
        "tool_calls": [{"name": "lookup", "arguments": {"scene": "Delft"}}],
    }
    await say(page, f"script: {json.dumps(script)}")
    await done(page)
    answer = page.locator(".assistant")
    await expect(answer.locator(".md h1")).to_have_text("Mills")
    await expect(answer.locator(".md li")).to_have_count(2)
    await expect(answer.locator(".md pre code")).to_have_text("print(1)\n")
    await expect(answer.locator("details.thinking")).not_to_have_attribute("open", "")
    await answer.locator("details.thinking summary").click()
    await expect(answer.locator("details.thinking")).to_contain_text("Let me see.")


async def test_a_page_reloaded_in_mid_answer_goes_on_with_the_next_token(page: Page, scene: Scene) -> None:
    await set_up(page, **LONG)
    await say(page, "reload me")
    for _ in range(2):
        await begun(page)
        await page.reload()
    await done(page)
    assert await words_of(page) == (await scene.answer("reload me", **SAMPLING)).split()


async def test_a_worker_that_is_killed_leaves_a_mark_and_no_hole(page: Page, scene: Scene) -> None:
    await scene.enough_workers()
    await set_up(page, **LONG)
    await say(page, "kill my worker")
    await begun(page)
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Kill the worker that writes this").click()
    await done(page)
    await expect(page.locator(".story")).to_contain_text("0 lost, 0 repeated")
    await expect(page.locator(".md .seam")).to_have_count(1)
    assert await words_of(page) == (await scene.answer("kill my worker", **SAMPLING)).split()


@pytest.mark.ui
async def test_a_gateway_that_is_killed_is_waited_for(context: BrowserContext, scene: Scene) -> None:
    gateway = await scene.fleet.gateway()
    page = await context.new_page()
    await page.goto(f"{gateway.url}/")
    await set_up(page, **LONG)
    await say(page, "kill my gateway")
    await begun(page)
    await gateway.kill()
    await expect(page.locator(".assistant [role=status]")).to_contain_text("connection lost")
    await scene.fleet.gateway(port=gateway.url.rpartition(":")[2])
    await done(page)
    assert await words_of(page) == (await scene.answer("kill my gateway", **SAMPLING)).split()


@pytest.mark.ui
async def test_two_windows_read_one_answer(context: BrowserContext, page: Page, scene: Scene) -> None:
    await set_up(page, **LONG)
    await say(page, "two windows")
    await begun(page)
    await page.evaluate("dispatchEvent(new Event('pagehide'))")
    other = await context.new_page()
    await other.goto(f"{scene.url}/")
    await done(other)
    await done(page)
    assert await text_of(page) == await text_of(other) and len(await words_of(page)) == 150
    await say(other, 'script: {"text": "said in the other window"}')
    await expect(page.locator(".assistant").last).to_contain_text("said in the other window")


@pytest.mark.ui
async def test_stop_ends_the_answer_everywhere(page: Page, scene: Scene) -> None:
    await set_up(page, Most_tokens="5000")
    await say(page, "on and on")
    await begun(page)
    await page.keyboard.press("Escape")
    await expect(page.locator(".assistant")).to_have_attribute("data-state", "stopped")
    id = await page.locator(".assistant").get_attribute("data-id")
    state = "state => fetch('/v1/jobs/' + state).then(r => r.json()).then(j => j.state === 'cancelled')"
    await page.wait_for_function(state, arg=id)


@pytest.mark.ui
async def test_an_answer_without_room_is_continued(page: Page, scene: Scene) -> None:
    await set_up(page, Most_tokens="10", Seed="5")
    await say(page, "go on")
    await done(page)
    first = await text_of(page)
    await page.get_by_role("button", name="Continue").click()
    await done(page)
    await expect(page.get_by_text("2/2")).to_be_visible()
    whole = await text_of(page)
    assert whole.startswith(first.strip()) and len(whole.split()) == 20


@pytest.mark.ui
async def test_an_answer_that_waits_tells_its_place(page: Page, scene: Scene) -> None:
    async with scene.busy(OTHER):
        await page.goto(f"{scene.url}/#/cluster")
        await page.locator(".queue td", has_text="running").wait_for()
        await page.goto(f"{scene.url}/#/chat")
        await page.get_by_label("Model").select_option(OTHER)
        await set_up(page, Most_tokens="5")
        await say(page, "me too")
        waiting = page.locator(".assistant [role=status]")
        await expect(waiting).to_contain_text("place 1 in the queue", timeout=PATIENCE)
    await done(page)


@pytest.mark.ui
async def test_questions_are_edited_and_answers_given_again_as_branches(page: Page) -> None:
    await set_up(page, Most_tokens="5")
    await say(page, "first")
    await done(page)
    await page.get_by_role("button", name="Answer again").click()
    await expect(page.get_by_text("2/2")).to_be_visible()
    await done(page)
    second = await text_of(page)
    await page.get_by_role("button", name="Earlier version").click()
    assert await text_of(page) != second
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_role("textbox", name="Edit").fill("edited")
    await page.locator(".message.user").get_by_role("button", name="Send").click()
    await done(page)
    await expect(page.locator(".message.user .body")).to_have_text("edited")
    await page.locator(".message.user").get_by_role("button", name="Earlier version").click()
    await expect(page.locator(".message.user .body")).to_have_text("first")


@pytest.mark.ui
async def test_models_are_chosen_and_conversations_kept(page: Page) -> None:
    await expect(page.get_by_label("Model").locator("option")).to_have_text([MODEL, OTHER])
    await page.get_by_label("Model").select_option(OTHER)
    await set_up(page, Most_tokens="5", System_prompt="Be brief.")
    await say(page, "of beta")
    await done(page)
    await page.get_by_role("button", name="New conversation").click()
    await expect(page.locator(".message")).to_have_count(0)
    await page.get_by_role("button", name="of beta", exact=True).click()
    await expect(page.locator(".assistant .who")).to_have_text(OTHER)
    await page.get_by_role("button", name="Delete: of beta").click()
    await expect(page.get_by_role("button", name="of beta", exact=True)).to_have_count(0)


@pytest.mark.ui
async def test_an_error_is_told_in_its_words(page: Page) -> None:
    await say(page, 'script: {"text": "half a", "error": {"message": "The mill burnt down."}}')
    await expect(page.get_by_role("alert")).to_contain_text("The mill burnt down.")
