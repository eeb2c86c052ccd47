"""A request leaves nothing that only the garbage collector could free. Its looks hold up all streams."""

import gc
from typing import Any

import httpx
import pytest

from tests.gateway.scripted import MODEL, ScriptedCluster

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


SERVERS = ("gateway", "fastapi", "starlette", "sse_starlette", "uvicorn")


def serving(found: list[object]) -> set[str]:
    """The kinds of objects that only the server makes."""
    kinds = {type(one) for one in found}
    return {kind.__qualname__ for kind in kinds if kind.__module__.partition(".")[0] in SERVERS}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_leaves_no_cycle(http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool) -> None:
    body = ASK | {"stream": stream}
    await http.post("/v1/chat/completions", json=body)
    gc.collect()
    gc.disable()
    try:
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        cluster.queue.jobs.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert serving(gc.garbage) == set()
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
