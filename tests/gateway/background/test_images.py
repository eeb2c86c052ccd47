"""A batch's lines show images to a model that sees: those sent with the line, and those at addresses, fetched when the
line runs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from millstream.common.broker.embedded import EmbeddedValkey
from tests.gateway.background.cluster import gateway
from tests.gateway.background.processes import processes
from tests.gateway.background.test_batches import CHAT, answers, end_of, submit
from tests.gateway.requests.test_images import DATA, INPUT, SHOWN, WORDS
from tests.gateway.services.test_image_fetcher import ImageHost, host
from tests.harness.scripted_upstream import MODEL, ScriptedUpstream, open_upstream
from tests.harness.support import wait_until

__all__ = ["host"]  # a fixture
SEES = {"goes_on", "usage", "completions", "chat", "seed", "images"}


@asynccontextmanager
async def cluster(
    valkey: EmbeddedValkey, folder: Path, upstream: ScriptedUpstream, host: str
) -> AsyncIterator[openai.AsyncOpenAI]:
    with processes(valkey.url, folder, image_hosts=host) as running:
        running.start("worker", "worker", "--upstream", upstream.url)
        running.start("background", "background")
        async with (
            gateway(valkey.url, folder / "files") as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):

            async def served() -> bool:
                return bool((await client.models.list()).data)

            await wait_until(served, within=60, what="the worker is there")
            yield client


def asks(custom_id: str, body: dict[str, Any], url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": MODEL, **body}}


def chat(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def at(address: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"http://{address}"}}


async def test_lines_show_what_they_hold_and_what_they_name(
    own_valkey: EmbeddedValkey, tmp_path: Path, host: ImageHost
) -> None:
    async with (
        open_upstream(ScriptedUpstream(can=SEES)) as upstream,
        cluster(own_valkey, tmp_path, upstream, host.name) as client,
    ):
        lines = [asks("sent", chat(WORDS, SHOWN)), asks("named", chat(at(f"{host.name}/a.png"), WORDS))]
        lines += [asks("gone", chat(at(f"{host.name}/none.png"))), asks("foreign", chat(at("127.0.0.1:1/a.png")))]
        batch = await end_of(client, await submit(client, lines))
        assert batch.status == "completed", batch.errors
        assert sorted(line["custom_id"] for line in await answers(client, batch.output_file_id)) == ["named", "sent"]
        failed = {line["custom_id"]: line["response"] for line in await answers(client, batch.error_file_id)}
        assert {each["status_code"] for each in failed.values()} == {400}
        told = {name: each["body"]["error"] for name, each in failed.items()}
        assert {error["param"] for error in told.values()} == {"messages[0].content[0].image_url.url"}
        assert "answered 404" in told["gone"]["message"] and "--image-hosts" in told["foreign"]["message"]
        shown = [body["messages"][-1]["content"] for body in upstream.asked]
        assert sorted(map(json.dumps, shown)) == sorted(map(json.dumps, [[WORDS, SHOWN], [SHOWN, WORDS]]))


async def test_a_turns_line_shows_its_own(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    body = {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}, INPUT]}]}
    async with (
        open_upstream(ScriptedUpstream(can=SEES)) as upstream,
        cluster(own_valkey, tmp_path, upstream, "none") as client,
    ):
        turns = [asks("a", body, "/v1/responses")]
        batch = await end_of(client, await submit(client, turns, "/v1/responses"))
        assert batch.status == "completed", batch.errors
        [asked] = upstream.asked
        assert asked["messages"][-1]["content"][-1] == {"type": "image_url", "image_url": {"url": DATA}}


BROKEN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


@pytest.mark.parametrize(
    ("can", "part", "param"), [(SEES, BROKEN, "image_url.url"), (SEES - {"images"}, SHOWN, "type")]
)
async def test_what_is_no_image_or_seen_by_nobody_is_a_fault_of_its_line(
    own_valkey: EmbeddedValkey, tmp_path: Path, can: set[str], part: dict[str, Any], param: str
) -> None:
    async with (
        open_upstream(ScriptedUpstream(can=can)) as upstream,
        cluster(own_valkey, tmp_path, upstream, "none") as client,
    ):
        batch = await end_of(client, await submit(client, [asks("ok", chat(WORDS)), asks("bad", chat(part))]))
        assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
        [error] = batch.errors.data
        assert (error.line, error.param) == (2, f"body.messages[0].content[0].{param}")
        assert upstream.asked == []
