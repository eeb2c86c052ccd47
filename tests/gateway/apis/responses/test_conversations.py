"""Conversations: items kept in a row, read by turns that name them, and added to by these."""

from typing import Any

import httpx
import openai
import pytest
from openai.types import conversations as kinds
from openai.types.responses import Response

from millstream.common.job import ChatPrompt
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster, failed, said
from tests.gateway.strict import strictly

HELLO: Any = {"type": "message", "role": "user", "content": "hi"}


def written(cluster: ScriptedCluster) -> list[tuple[str, str]]:
    """Returns what the model saw last."""
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    return [(message["role"], message["content"]) for message in prompt.messages]


async def test_a_conversations_life(client: openai.AsyncOpenAI) -> None:
    made = await client.conversations.create(metadata={"a": "b"}, items=[HELLO])
    assert made.id.startswith("conv_") and made.metadata == {"a": "b"}
    assert (await client.conversations.retrieve(made.id)).created_at == made.created_at
    assert (await client.conversations.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    assert (await client.conversations.retrieve(made.id)).metadata == {"c": "d"}
    assert (await client.conversations.delete(made.id)).deleted
    for gone in (client.conversations.retrieve(made.id), client.conversations.items.list(made.id)):
        with pytest.raises(openai.NotFoundError):
            await gone


async def test_items(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create()
    many: list[Any] = [HELLO | {"content": str(each)} for each in range(20)]
    added = await client.conversations.items.create(made.id, items=many)
    assert [item.content[0].text for item in added.data] == [str(each) for each in range(20)]  # type: ignore[union-attr]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    answer = {"type": "function_call_output", "call_id": "c", "output": "x"}
    await client.conversations.items.create(made.id, items=[call, answer])  # type: ignore[list-item]
    raw = (await http.get(f"/v1/conversations/{made.id}/items?order=asc&limit=100")).json()
    strictly(kinds.ConversationItemList, raw)
    newest = [item async for item in client.conversations.items.list(made.id, limit=7)]
    assert [item.id for item in newest] == [item["id"] for item in raw["data"]][::-1] and len(newest) == 22
    one = raw["data"][3]
    found = await client.conversations.items.retrieve(one["id"], conversation_id=made.id)
    assert found.id == one["id"]
    await client.conversations.items.delete(one["id"], conversation_id=made.id)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.retrieve(one["id"], conversation_id=made.id)
    assert len((await http.get(f"/v1/conversations/{made.id}/items?limit=100")).json()["data"]) == 21


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("form", ["whole", "stream", "background"])
async def test_turns_read_it_and_add_to_it(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster, http: httpx.AsyncClient, form: str, store: bool
) -> None:
    if form == "background" and not store:
        pytest.skip("a background response is stored")
    made = await client.conversations.create(items=[HELLO | {"role": "developer", "content": "Be brief."}])
    for turn in range(3):
        cluster.queue.script = lambda _, turn=turn: said(f"answer {turn}")
        asked: dict[str, Any] = {"model": MODEL, "input": f"question {turn}", "store": store}
        asked |= {"conversation": made.id if turn else {"id": made.id}}
        asked |= {form: True} if form != "whole" else {}
        answered = await http.post("/v1/responses", json=asked)
        assert answered.status_code == 200, answered.text
        if form == "background":
            read = await http.get(f"/v1/responses/{answered.json()['id']}")
            assert read.json()["status"] == "completed"
        if form == "whole":
            response = strictly(Response, answered.json())
            assert response.conversation is not None and response.conversation.id == made.id
    past = [("user", "question 0"), ("assistant", "answer 0"), ("user", "question 1"), ("assistant", "answer 1")]
    assert written(cluster) == [("developer", "Be brief."), *past, ("user", "question 2")]
    items = [item async for item in client.conversations.items.list(made.id, order="asc", limit=3)]
    assert [item.role for item in items] == ["developer", *["user", "assistant"] * 3]  # type: ignore[union-attr]


async def test_reading_a_turn_again_adds_nothing(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create()
    again = {"Idempotency-Key": "k"}
    for _ in range(2):
        asked = {"model": MODEL, "input": "hi", "conversation": made.id}
        answer = await client.responses.create(**asked, extra_headers=again)  # type: ignore[call-overload]
        await http.get(f"/v1/responses/{answer.id}")
    assert len([item async for item in client.conversations.items.list(made.id)]) == 2


async def test_items_of_one_id_all_come_into_it(client: openai.AsyncOpenAI) -> None:
    made = await client.conversations.create()
    same: Any = [HELLO | {"id": "msg_0"}, HELLO | {"id": "msg_0", "content": "again"}]
    await client.responses.create(model=MODEL, input=same, conversation=made.id)
    assert len([item async for item in client.conversations.items.list(made.id)]) == 3


async def test_a_turn_that_failed_adds_nothing(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    made = await client.conversations.create()
    cluster.queue.script = lambda _: [*said("half")[:-1], failed("worker_lost")]
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model=MODEL, input="hi", conversation=made.id)
    assert [item async for item in client.conversations.items.list(made.id)] == []


async def test_what_is_refused(client: openai.AsyncOpenAI, http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    made = await client.conversations.create()
    first = await client.responses.create(model=MODEL, input="hi")
    both = {"model": MODEL, "input": "hi", "conversation": made.id, "previous_response_id": first.id}
    wrong: list[tuple[str, dict[str, Any], int, str]] = [
        ("responses", both, 400, "conversation"),
        ("responses", {"model": MODEL, "input": "hi", "conversation": "conv_none"}, 404, "conversation_id"),
        ("conversations", {"items": [HELLO] * 21}, 400, "items"),
        ("conversations", {"items": [{"type": "message", "role": "user"}]}, 400, "items[0].content"),
        ("conversations", {"items": [{"type": "of_tomorrow"}]}, 400, "items[0].type"),
        (f"conversations/{made.id}/items", {"items": []}, 400, "items"),
        ("conversations/conv_none/items", {"items": [HELLO]}, 404, "conversation_id"),
    ]
    for path, body, status, param in wrong:
        answer = await http.post(f"/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


async def test_of_another_tenant_and_without_a_store(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, api_keys=["a:key-a", "b:key-b"]) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="key-a", max_retries=0) as client:
            made = await client.conversations.create(items=[HELLO])
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="key-b", max_retries=0) as other:
            for tried in (
                other.conversations.retrieve(made.id),
                other.conversations.delete(made.id),
                other.responses.create(model=MODEL, input="hi", conversation=made.id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await tried
    cluster.store = None
    async with gateway(cluster) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/v1/conversations", json={})).status_code == 400
