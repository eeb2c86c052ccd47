"""A worker in front of an upstream is killed in mid-answer: another one goes on from the text."""

import json
from pathlib import Path
from typing import Any

from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import CHAT, MODEL, cluster
from tests.harness.scripted_upstream import ScriptedUpstream, Turn, open_upstream

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_kill_9_of_a_worker_in_front_of_an_upstream(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    turn = Turn(words=20, gate_after=5)
    async with open_upstream(ScriptedUpstream(usual=turn)) as upstream, cluster(own_valkey, tmp_path) as site:
        served = {"engine": "openai", "upstream": upstream.url, "served_model_name": MODEL}
        gateway, first = await site.gateway(), await site.worker(**served)
        text = ""
        async with site.http.stream("POST", f"{gateway.url}{CHAT}", json=ASK) as response:
            assert response.headers["x-millstream-exactness"] == "text"
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line.removeprefix("data: "))["choices"]
                    text += "".join(choice["delta"].get("content") or "" for choice in choices)
                if text.count("w") == 5 and first.alive:
                    await first.kill()
                    upstream.gate.set()
                    await site.worker(**served)
    assert text == "".join(f"w{number} " for number in range(20))
