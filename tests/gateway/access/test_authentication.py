"""Keys: who is let in, where, and as whom."""

import httpx
import pytest
from pydantic import ValidationError

from millstream.gateway.app import create_app
from millstream.gateway.settings import GatewaySettings
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
KEYS = ["team-a:sk-aaaaaaaaaaaaaaaa", "team-b:sk-bbbbbbbbbbbbbbbb"]


async def test_every_route_but_health_and_the_descriptions_wants_a_key(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, api_keys=KEYS) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ("/v1/models", "/metrics", "/version", "/v1/nothing"):
            refused = await http.get(path)
            assert refused.status_code == 401, path
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert refused.headers["x-request-id"]
        for path in ("/health", "/ready", "/docs", "/redoc", "/openapi.json"):
            assert (await http.get(path)).status_code == 200, path
        wrong = await http.get("/v1/models", headers={"Authorization": "Bearer sk-wrongwrongwrong"})
        assert wrong.status_code == 401 and "wrongwrong" not in wrong.json()["error"]["message"]


async def test_the_description_tells_of_keys(cluster: ScriptedCluster) -> None:
    """Without a key on it, a page can still be asked for one: it is sent where one is given."""
    async with gateway(cluster, api_keys=KEYS) as url, httpx.AsyncClient(base_url=url) as http:
        document = (await http.get("/openapi.json")).json()
    scheme = document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert document["security"] == [{"key": []}, {}]
    for path in ("/health", "/ready"):
        assert document["paths"][path]["get"]["security"] == []
    assert "security" not in document["paths"]["/v1/chat/completions"]["post"]


async def test_the_key_tells_the_tenant(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, api_keys=KEYS) as url, httpx.AsyncClient(base_url=url) as http:
        for headers in ({"Authorization": "Bearer sk-aaaaaaaaaaaaaaaa"}, {"x-api-key": "sk-bbbbbbbbbbbbbbbb"}):
            assert (await http.post("/v1/chat/completions", json=ASK, headers=headers)).status_code == 200
    assert [submission.tenant for submission in cluster.queue.submissions] == ["team-a", "team-b"]


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "0.0.0.0", "insecure_no_auth": True}, True),
        ({"host": "0.0.0.0", "api_keys": KEYS}, True),
    ],
)
def test_strangers_are_not_served(cluster: ScriptedCluster, settings: dict[str, object], allowed: bool) -> None:
    chosen = GatewaySettings(**settings)  # type: ignore[arg-type]
    if allowed:
        create_app(chosen, cluster.connect)
        return
    with pytest.raises(ValueError, match="insecure-no-auth"):
        create_app(chosen, cluster.connect)


def test_settings_that_make_no_sense(cluster: ScriptedCluster) -> None:
    with pytest.raises(ValueError, match="tenant:key"):
        create_app(GatewaySettings(api_keys=["nokey"]), cluster.connect)
    with pytest.raises(ValueError, match="alias=model"):
        create_app(GatewaySettings(aliases=["gpt-4o"]), cluster.connect)
    with pytest.raises(ValidationError):
        GatewaySettings(port=70000)


async def test_browsers(cluster: ScriptedCluster) -> None:
    origin = {"Origin": "https://app.example"}
    preflight = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with (
        gateway(cluster, api_keys=KEYS, cors_origins=["https://app.example"]) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        answer = await http.options("/v1/chat/completions", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        key = {"Authorization": "Bearer sk-aaaaaaaaaaaaaaaa"}
        answer = await http.post("/v1/chat/completions", json=ASK, headers=origin | key)
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
