"""The items that a turn refers to are bounded as if the client had sent them, and read once."""

from typing import Any

import httpx
import openai
import pytest

from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, MemoryStore, Record, ScriptedCluster, said

MOST = 20_000  # bytes of a body


class CountingStore(MemoryStore):
    """Notes what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def get(self, tenant: str, kind: Any, identity: str) -> Record | None:
        self.read.append(identity)
        return await super().get(tenant, kind, identity)


def references(*ids: str) -> list[Any]:
    return [{"type": "item_reference", "id": id} for id in ids]


async def refused(client: openai.AsyncOpenAI, **asked: Any) -> Any:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=MODEL, **{"input": "hi", **asked})
    return caught.value


async def test_a_turn_is_read_once_however_often_it_is_referred_to() -> None:
    store = CountingStore()
    cluster = ScriptedCluster(store=store)
    async with gateway(cluster) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        first = await client.responses.create(model=MODEL, input="short")
        store.read.clear()
        await client.responses.create(model=MODEL, input=references(*[first.output[0].id] * 50), store=False)
        assert store.read == [first.id]
        unknown = f"msg_{'0' * 32}"
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model=MODEL, input=references(unknown))


async def test_what_is_referred_to_is_no_larger_than_a_body() -> None:
    cluster = ScriptedCluster(store=CountingStore())
    cluster.queue.script = lambda _: said("x" * 1000)
    async with (
        gateway(cluster, max_body_bytes=MOST) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        first = await client.responses.create(model=MODEL, input="short")
        item = first.output[0].id
        await client.responses.create(model=MODEL, input=references(*[item] * 10))
        error = await refused(client, input=references(*[item] * 30))
        assert error.code == "referred_too_large" and error.param == "input" and str(MOST) in str(error)

        last = first.id
        with pytest.raises(openai.BadRequestError) as caught:
            for _ in range(10):
                turn = await client.responses.create(model=MODEL, input="y" * 3000, previous_response_id=last)
                last = turn.id
        assert caught.value.param == "previous_response_id" and caught.value.code == "referred_too_large"


async def test_so_many_items_are_refused_before_any_is_looked_up(http: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "input": references(*[f"msg_{index:032x}" for index in range(16385)])}
    error = (await http.post("/v1/responses", json=body)).json()["error"]
    assert error["param"] == "input" and "16384" in error["message"]
