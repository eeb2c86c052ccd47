"""The exactness that a worker states reaches the client, and the figures."""

import httpx
import pytest

from millstream.common.chunk import Chunk, Start
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("stated", "told"), [("text", "text"), ("", None), ("invented", None)])
async def test_a_header_and_a_metric_tell_it(
    http: httpx.AsyncClient, cluster: ScriptedCluster, stated: str, told: str | None, stream: bool
) -> None:
    start = Chunk(start=Start(prompt_tokens=7, fingerprint="fp_test", exactness=stated))
    cluster.queue.script = lambda _: [start, Chunk(text="Hi", ids=[1]), Chunk(finish="stop", usage=USAGE)]
    response = await http.post("/v1/chat/completions", json=ASK | {"stream": stream})
    assert response.headers.get("x-millstream-exactness") == told
    line = f'millstream_gateway_answers_total{{exactness="{stated}",model="{MODEL}"}} 1.0'
    assert (line in (await http.get("/metrics")).text) == (told is not None)
