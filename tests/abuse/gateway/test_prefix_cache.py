"""Whatever one tenant asked cannot be found out by another from the prefix cache: neither worker nor gateway joins
them."""

import httpx

from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK = {"model": MODEL, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "secret"}]}
KEYS = ["acme:sk-aaaaaaaaaaaaaaaa", "rival:sk-bbbbbbbbbbbbbbbb"]


async def asked(**settings: object) -> list[tuple[str, set[str]]]:
    """Salt and routing keys of the same question of acme, acme and rival."""
    cluster = ScriptedCluster()
    async with gateway(cluster, api_keys=KEYS, **settings) as url, httpx.AsyncClient(base_url=url) as http:
        for key in ("sk-aaaaaaaaaaaaaaaa", "sk-aaaaaaaaaaaaaaaa", "sk-bbbbbbbbbbbbbbbb"):
            answer = await http.post("/v1/chat/completions", json=ASK, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200
    return [(job.request.cache_salt, set(job.submission.affinity)) for job in cluster.queue.jobs.values()]


async def test_each_tenant_has_a_cache_of_its_own() -> None:
    (salt, places), again, (others, elsewhere) = await asked()
    assert again == (salt, places) and salt and places
    assert others and others != salt and not places & elsewhere
    assert "acme" not in salt


async def test_sharing_is_the_operators_choice() -> None:
    first, _, other = await asked(share_prefixes=True)
    assert first == other and first[0] == "" and first[1]
