"""Nobody stops, or is told of, what belongs to another."""

import httpx

from millstream.common.request_id import new_request_id
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
KEYS = ["rival:sk-aaaaaaaaaaaaaaaa", "acme:sk-bbbbbbbbbbbbbbbb"]
RIVAL, ACME = ({"Authorization": f"Bearer {entry.partition(':')[2]}"} for entry in KEYS)


async def test_cancelling_what_is_not_ones_own_is_404() -> None:
    cluster = ScriptedCluster()
    async with gateway(cluster, api_keys=KEYS) as url, httpx.AsyncClient(base_url=url) as http:
        identity = (await http.post("/v1/chat/completions", json=ASK, headers=ACME)).json()["id"]
        invented = new_request_id("chatcmpl", MODEL, 2).text
        for id in (identity, invented):
            refused = await http.post(f"/v1/requests/{id}/cancel", headers=RIVAL)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
        assert cluster.queue.cancelled == []
        own = await http.post(f"/v1/requests/{identity}/cancel", headers=ACME)
        assert (own.status_code, own.json()["status"]) == (200, "cancelled")
