"""`GET /v1/chat/completions/{id}/stream`: an answer goes on by its id alone."""

from typing import Any

import httpx

from tests.gateway.admin.conftest import House, chat

Event = tuple[str, str]


async def read(response: httpx.Response, most: int = 10_000) -> list[Event]:
    """Returns up to `most` events as id and data."""
    found: list[Event] = []
    place = ""
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            place = line.removeprefix("id: ")
        elif line.startswith("data: "):
            found.append((place, line.removeprefix("data: ")))
        if len(found) == most:
            break
    return found


async def begun(house: House, most: int = 8, **changes: Any) -> list[Event]:
    """Returns the first events of an answer whose reader leaves in its middle."""
    headers = {"x-millstream-resumable": "true"}
    body = chat(40, stream_options={"include_usage": True}, **changes)
    async with house.acme.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        return await read(response, most)


async def go_on(client: httpx.AsyncClient, id: str, **params: str) -> list[Event]:
    async with client.stream("GET", f"/v1/chat/completions/{id}/stream", params=params) as response:
        assert response.status_code == 200, await response.aread()
        return await read(response)


async def whole(house: House, **changes: Any) -> str:
    answer = await house.acme.post("/v1/chat/completions", json=chat(40, stream=False, **changes))
    return str(answer.json()["choices"][0]["message"]["content"])


def text_of(events: list[Event]) -> str:
    import json

    parsed = [json.loads(data) for _, data in events if data.startswith("{")]
    return "".join(choice["delta"].get("content") or "" for event in parsed for choice in event["choices"])


async def test_an_answer_goes_on_where_its_reader_left_and_can_be_read_again(house: House) -> None:
    await house.site.worker("worker-a", rate=60)
    first = await begun(house)
    place = first[-1][0]
    id = place.partition(":")[0]
    rest = await go_on(house.acme, id, after=place)
    assert text_of(first) + text_of(rest) == await whole(house)
    assert rest[-1][1] == "[DONE]" and '"usage":{' in rest[-2][1]
    assert await go_on(house.acme, id, after=place.partition(":")[2]) == rest
    again = await go_on(house.acme, id)
    assert [event for event in again if event[0]][: len(first)] == first


async def test_several_choices_go_on_together(house: House) -> None:
    await house.site.worker("worker-a", rate=60)
    first = await begun(house, n=2)
    place = first[-1][0]
    rest = await go_on(house.acme, place.partition(":")[0], after=place.partition(":")[2])
    assert rest[-1][1] == "[DONE]"
    assert len(text_of(first) + text_of(rest)) > len(await whole(house))


async def test_only_its_own_tenant_reads_it_not_even_an_administrator(house: House) -> None:
    await house.site.worker("worker-a", rate=60)
    id = (await begun(house))[0][0].partition(":")[0]
    for client in (house.zeta, house.admin):
        assert (await client.get(f"/v1/chat/completions/{id}/stream")).status_code == 404


async def test_places_that_are_none_are_refused(house: House) -> None:
    await house.site.worker("worker-a", rate=60)
    id = (await begun(house))[0][0].partition(":")[0]
    path = f"/v1/chat/completions/{id}/stream"
    other = f"chatcmpl-{'0' * 7}1001{'0' * 21}:3"
    wrong = [await house.acme.get(path, params={"after": after}) for after in ("x", "3.4", other)]
    assert [answer.status_code for answer in wrong] == [400, 400, 400]
    assert (await house.acme.get("/v1/chat/completions/nothing/stream")).status_code == 404
