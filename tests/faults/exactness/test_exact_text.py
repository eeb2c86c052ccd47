"""The text between tokens survives a worker too: halves of characters, reasoning, growing tool calls."""

import asyncio
import json
from typing import Any

import pytest

from millstream.common.broker import keys
from tests.harness.cluster import CHAT, MODEL, PATIENCE, Cluster, body
from tests.harness.support import wait_until

CELEBRATION = "🎉👩‍👩‍👧 naïve 漢字 " * 6  # tokens are bytes: nearly every one ends inside a character
ARGUMENTS = {"city": "Zürich", "days": [1, 2, 3], "note": 'a "quoted" word and a \\ backslash'}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
SCRIPTS: dict[str, dict[str, Any]] = {
    "characters": {"text": CELEBRATION},
    "reasoning": {"reasoning": "Let me think… " * 8, "text": "Done: ✓"},
    "tools": {"text": "I look. ", "tool_calls": [{"name": "weather", "arguments": ARGUMENTS}] * 2},
}


async def said(site: Cluster, url: str, script: dict[str, Any]) -> dict[str, str]:
    """The answer as a client joins it: content, reasoning, and each call's arguments."""
    asking = body(messages=[{"role": "user", "content": "script: " + json.dumps({**script, "rate": 60})}], stream=True)
    joined = {"content": "", "reasoning_content": ""}
    asking |= {"tools": TOOLS} if "tool_calls" in script else {}
    async with site.http.stream("POST", url + CHAT, json=asking) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            [choice] = json.loads(line[6:])["choices"]
            for name in ("content", "reasoning_content"):
                joined[name] += choice["delta"].get(name) or ""
            for call in choice["delta"].get("tool_calls") or []:
                slot = f"call {call['index']}"
                joined[slot] = joined.get(slot, "") + (call["function"].get("arguments") or "")
            joined["finish"] = choice["finish_reason"] or ""
    return joined


@pytest.mark.parametrize("kind", SCRIPTS)
async def test_an_answer_goes_on_with_exactly_what_was_left(site: Cluster, kind: str) -> None:
    gateway, first = await site.gateway(), await site.worker()
    asking = asyncio.create_task(said(site, gateway.url, SCRIPTS[kind]))
    await wait_until(lambda: tokens_logged(site, 25), within=PATIENCE, what="it is in the middle of its answer")
    await first.kill()
    await site.worker()
    joined = await asking
    script = SCRIPTS[kind]
    assert joined["content"].strip() == script["text"].strip()
    assert joined["reasoning_content"].strip() == script.get("reasoning", "").strip()
    calls = [json.loads(value) for name, value in joined.items() if name.startswith("call ")]
    assert calls == [call["arguments"] for call in script.get("tool_calls", [])]
    assert joined["finish"] == ("tool_calls" if calls else "stop")
    [job] = await site.jobs()
    assert int(job["grant"]) == 2, "it was continued, not just lucky"


async def tokens_logged(site: Cluster, count: int) -> bool:
    logs = [name async for name in site.broker.redis.scan_iter(keys.chunks(MODEL, "*"))]  # type: ignore[arg-type]
    return bool(logs) and await site.broker.redis.xlen(logs[0]) >= count
