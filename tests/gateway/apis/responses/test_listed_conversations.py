"""Conversations are listed, and messages keep what a client attaches to them: extensions that the page lives on."""

import base64
from typing import Any

import httpx
import openai

from tests.gateway.conftest import gateway
from tests.gateway.scripted import ScriptedCluster

PATH = "/v1/conversations"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def shown(data: bytes) -> dict[str, Any]:
    """Returns a message with a picture in it."""
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": url}]
    return {"type": "message", "role": "user", "content": content}


async def test_the_list_is_paged_and_filtered(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = [(await client.conversations.create(metadata={"at": str(at % 2)})).id for at in range(5)]
    read: list[str] = []
    query = f"{PATH}?limit=2"
    while True:
        page = (await http.get(query)).json()
        read += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        query = f"{PATH}?limit=2&after={page['last_id']}"
    assert sorted(read) == sorted(made)
    there = (await http.get(f"{PATH}?order=asc")).json()["data"]
    assert [each["id"] for each in there] == read[::-1]
    some = (await http.get(PATH, params={"metadata[at]": "1"})).json()["data"]
    assert {each["id"] for each in some} == {made[1], made[3]}
    await client.conversations.delete(made[1])
    left = (await http.get(PATH)).json()
    assert len(left["data"]) == 4
    assert left["store_started_at"] <= min(each["created_at"] for each in left["data"])
    refused = await http.get(f"{PATH}?limit=101")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "limit")


async def test_each_tenant_lists_its_own(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, api_keys=["a:key-a", "b:key-b"]) as url, httpx.AsyncClient(base_url=url) as http:
        of = {name: {"authorization": f"Bearer key-{name}"} for name in "ab"}
        made = (await http.post(PATH, json={}, headers=of["a"])).json()["id"]
        assert [each["id"] for each in (await http.get(PATH, headers=of["a"])).json()["data"]] == [made]
        assert (await http.get(PATH, headers=of["b"])).json()["data"] == []
        assert (await http.get(f"{PATH}?after={made}", headers=of["b"])).json()["data"] == []


async def test_without_a_store_it_says_so(cluster: ScriptedCluster) -> None:
    cluster.store = None
    async with gateway(cluster) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.get(PATH)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "This gateway keeps no conversations.")


async def test_what_is_attached_to_a_message_comes_back(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create()
    attached = {"parent": None, "deep": {"list": [1, 2.5, "三", None]}}
    item = {"type": "message", "role": "assistant", "content": "hi", "attached": attached}
    answer = await http.post(f"{PATH}/{made.id}/items", json={"items": [item]})
    assert answer.json()["data"][0]["attached"] == attached
    assert (await http.get(f"{PATH}/{made.id}/items")).json()["data"][0]["attached"] == attached
    wrong = await http.post(f"{PATH}/{made.id}/items", json={"items": [item | {"attached": "text"}]})
    assert wrong.status_code == 400 and "attached" in wrong.json()["error"]["param"]


async def test_pictures_are_kept_in_messages_and_checked(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create()
    item = shown(PIXEL)
    answer = await http.post(f"{PATH}/{made.id}/items", json={"items": [item]})
    parts = answer.json()["data"][0]["content"]
    assert parts[0] == item["content"][0] and parts[1]["image_url"] == item["content"][1]["image_url"]
    wrong = await http.post(f"{PATH}/{made.id}/items", json={"items": [shown(b"no picture at all")]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "items[0].content[1].image_url.url")
