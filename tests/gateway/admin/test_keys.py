"""`/v1/keys`: administrators make, change and revoke keys; a key is shown once."""

import pytest

from tests.gateway.admin.conftest import House
from tests.harness.support import wait_until


async def test_a_key_is_shown_once_lets_its_owner_in_and_is_revoked(house: House) -> None:
    await house.site.beat("worker-a")
    made = await house.admin.post("/v1/keys", json={"tenant": "newcomer", "limits": {"requests_per_minute": 9}})
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    key, identity = made.json()["key"], made.json()["id"]
    own = {"authorization": f"Bearer {key}"}
    assert (await house.acme.get("/v1/models", headers=own)).status_code == 200
    listed = (await house.admin.get("/v1/keys")).json()["data"]
    assert [each["id"] for each in listed] == [identity] and key not in str(listed)
    changed = await house.admin.patch(f"/v1/keys/{identity}", json={"weight": 2.5, "limits": {"concurrent": 3}})
    assert changed.json()["limits"] == {**listed[0]["limits"], "concurrent": 3} and changed.json()["weight"] == 2.5
    assert (await house.admin.delete(f"/v1/keys/{identity}")).json()["deleted"]

    async def refused() -> bool:
        return (await house.acme.get("/v1/models", headers=own)).status_code == 401

    await wait_until(refused)


async def test_keys_are_listed_by_page(house: House) -> None:
    ids = [(await house.admin.post("/v1/keys", json={"tenant": f"t{at}"})).json()["id"] for at in range(5)]
    first = (await house.admin.get("/v1/keys", params={"limit": 3})).json()
    rest = (await house.admin.get("/v1/keys", params={"limit": 3, "after": first["last_id"]})).json()
    assert {each["id"] for each in [*first["data"], *rest["data"]]} == set(ids)
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [each["tenant"] for each in (await house.admin.get("/v1/keys?tenant=t3")).json()["data"]] == ["t3"]


async def test_an_empty_list_has_all_fields_of_a_list(house: House) -> None:
    listed = (await house.admin.get("/v1/keys")).json()
    assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_a_tenant_has_no_part_in_it(house: House) -> None:
    answers = [
        await house.acme.get("/v1/keys"),
        await house.acme.post("/v1/keys", json={}),
        await house.acme.get("/v1/keys/key_1"),
        await house.acme.patch("/v1/keys/key_1", json={}),
        await house.acme.delete("/v1/keys/key_1"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 5


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tenant": "two words"}, "tenant"),
        ({"weight": 0}, "weight"),
        ({"ceiling": "gold"}, "ceiling"),
        ({"limits": {"concurrent": -1}}, "limits.concurrent"),
    ],
)
async def test_terms_that_make_no_sense_are_refused_by_name(house: House, body: dict[str, object], param: str) -> None:
    answer = await house.admin.post("/v1/keys", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_an_unknown_key_is_not_found(house: House) -> None:
    assert (await house.admin.delete("/v1/keys/key_none")).status_code == 404
    assert (await house.admin.get("/v1/keys?after=key_none")).status_code == 400
