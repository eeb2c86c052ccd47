"""A page of elsewhere, in the browser of somebody who runs a gateway without keys, cannot use it."""

from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import pytest_asyncio

from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
EVIL = "https://evil.example"
FORM = {"Content-Type": "text/plain"}  # what a page may send anywhere without asking first


@pytest.fixture
def cluster() -> ScriptedCluster:
    return ScriptedCluster()


@pytest_asyncio.fixture
async def http(cluster: ScriptedCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(cluster) as url, httpx.AsyncClient(base_url=url) as made:
        yield made


def refused(answer: httpx.Response, naming: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (403, "forbidden", "permission_error")
    assert naming in error["message"] and answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "marks",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://127.0.0.1.evil.example"},
    ],
    ids=str,
)
async def test_other_sites(cluster: ScriptedCluster, http: httpx.AsyncClient, marks: dict[str, str]) -> None:
    headers = FORM | marks
    refused(await http.post(CHAT, json=ASK, headers=headers), "MILLSTREAM_CORS_ORIGINS")
    refused(await http.post(f"/v1/models/{MODEL}/unload", headers=headers), "MILLSTREAM_CORS_ORIGINS")
    form = {"file": ("a.jsonl", b"{}")}
    refused(await http.post("/v1/files", files=form, headers=marks), "MILLSTREAM_CORS_ORIGINS")
    refused(await http.delete("/v1/responses/resp_1", headers=marks), "MILLSTREAM_CORS_ORIGINS")
    refused(await http.get("/v1/models", headers=marks), "MILLSTREAM_CORS_ORIGINS")
    assert cluster.queue.submissions == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.1.2.3:8000", "[::2]"]
)
async def test_names_that_were_made_to_lead_here(http: httpx.AsyncClient, host: str) -> None:
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/health")):
        same_origin = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        refused(await http.request(method, path, headers=same_origin), "MILLSTREAM_ALLOWED_HOSTS")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.10:1", "localhost:8000", "LOCALHOST", "mill.localhost", "[::1]:8000", "localhost.:80"],
)
async def test_this_machine_by_any_of_its_names(http: httpx.AsyncClient, host: str) -> None:
    assert (await http.post(CHAT, json=ASK, headers={"Host": host})).status_code == 200
    same = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert (await http.post(CHAT, json=ASK, headers=same)).status_code == 200


async def test_pages_of_this_machine_links_and_programs(http: httpx.AsyncClient) -> None:
    page = {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
    assert (await http.post(CHAT, json=ASK, headers=page)).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await http.get("/docs", headers=link)).status_code == 200
    assert (await http.get("/ready", headers={"Origin": EVIL})).status_code == 200
    async with openai.AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content


async def test_what_the_operator_lists(cluster: ScriptedCluster) -> None:
    settings = {"cors_origins": ["https://app.example"], "allowed_hosts": ["llm.example.org"]}
    async with gateway(cluster, **settings) as url, httpx.AsyncClient(base_url=url) as http:
        listed = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
        assert (await http.post(CHAT, json=ASK, headers=listed)).status_code == 200
        preflight = listed | {"Access-Control-Request-Method": "POST"}
        assert (await http.options(CHAT, headers=preflight)).status_code == 200
        assert (await http.post(CHAT, json=ASK, headers={"Host": "llm.example.org"})).status_code == 200
        refused(await http.post(CHAT, json=ASK, headers={"Origin": EVIL}), "MILLSTREAM_CORS_ORIGINS")
        refused(await http.post(CHAT, json=ASK, headers={"Host": "evil.example"}), "MILLSTREAM_ALLOWED_HOSTS")
    async with gateway(cluster, cors_origins=["*"]) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post(CHAT, json=ASK, headers={"Origin": EVIL})).status_code == 200


async def test_with_keys_a_page_cannot_use_them_anyway(cluster: ScriptedCluster) -> None:
    """A request that carries a key was meant: no browser adds one by itself."""
    async with gateway(cluster, api_keys=["team:sk-aaaaaaaaaaaaaaaa"]) as url, httpx.AsyncClient(base_url=url) as http:
        headers = {"Host": "llm.example.org", "Origin": EVIL, "Authorization": "Bearer sk-aaaaaaaaaaaaaaaa"}
        assert (await http.post(CHAT, json=ASK, headers=headers)).status_code == 200
        del headers["Authorization"]
        assert (await http.post(CHAT, json=ASK, headers=headers)).status_code == 401
