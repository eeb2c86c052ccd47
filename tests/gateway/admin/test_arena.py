"""Votes are kept, ranked and exported; the ranking is that of Bradley and Terry."""

import json
from random import Random

import pytest

from millstream.gateway.apis.admin.arena.rating import Ballot, ratings
from tests.gateway.admin.conftest import House


def vote(left: str, right: str, winner: str, **more: object) -> dict[str, object]:
    return {"left": {"model": left, "answer": "l"}, "right": {"model": right}, "winner": winner, **more}


async def test_votes_are_kept_by_page_exported_and_ranked(house: House) -> None:
    for winner in ("left", "left", "tie", "right", "both_bad"):
        made = await house.acme.post("/v1/arena/votes", json=vote("big", "small", winner))
        assert made.status_code == 201
    await house.acme.post("/v1/arena/votes", json=vote("small", "big", "left", blind=False))
    first = (await house.acme.get("/v1/arena/votes", params={"limit": 4})).json()
    rest = (await house.acme.get("/v1/arena/votes", params={"limit": 4, "after": first["last_id"]})).json()
    assert [each["winner"] for each in first["data"]] == ["left", "left", "tie", "right"] and len(rest["data"]) == 2
    lines = (await house.acme.get("/v1/arena/votes.jsonl")).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [each["id"] for each in [*first["data"], *rest["data"]]]
    board = (await house.acme.get("/v1/arena/leaderboard")).json()
    assert board["votes"] == 5
    assert [(each["model"], each["wins"], each["losses"], each["ties"]) for each in board["data"]] == [
        ("big", 2, 1, 2),
        ("small", 1, 2, 2),
    ]
    assert (await house.acme.get("/v1/arena/leaderboard?blind=false")).json()["votes"] == 6


async def test_votes_are_the_tenants_own(house: House) -> None:
    await house.acme.post("/v1/arena/votes", json=vote("a", "b", "left"))
    assert (await house.zeta.get("/v1/arena/votes")).json()["data"] == []
    assert (await house.zeta.get("/v1/arena/leaderboard")).json() == {
        "object": "arena.leaderboard",
        "votes": 0,
        "data": [],
    }


@pytest.mark.parametrize(("change", "param"), [({"winner": "me"}, "winner"), ({"left": {}}, "left.model")])
async def test_a_vote_that_is_none_is_refused(house: House, change: dict[str, object], param: str) -> None:
    answer = await house.acme.post("/v1/arena/votes", json={**vote("a", "b", "left"), **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def battles(strengths: dict[str, float], count: int, seed: int) -> list[Ballot]:
    """Votes of people who prefer each model by its strength."""
    random, found = Random(seed), list[Ballot]()
    for _ in range(count):
        left, right = random.sample(sorted(strengths), 2)
        won = random.random() < strengths[left] / (strengths[left] + strengths[right])
        found.append((left, right, "left" if won else "right"))
    return found


def test_the_ranking_finds_the_strengths_that_made_the_votes() -> None:
    found = ratings(battles({"a": 1.0, "b": 10.0, "c": 100.0}, 6000, seed=3))
    assert [each.model for each in found] == ["c", "b", "a"]
    strong, middle, weak = (each.rating for each in found)
    assert strong - middle == pytest.approx(400, abs=60) and middle - weak == pytest.approx(400, abs=60)


def test_intervals_hold_and_narrow_with_votes() -> None:
    held = 0
    for seed in range(40):
        strong, weak = ratings(battles({"a": 1.0, "b": 3.0}, 200, seed))
        held += strong.low <= 1000 + 95.4 <= strong.high and weak.low <= 1000 - 95.4 <= weak.high
    assert held >= 34
    few, many = (ratings(battles({"a": 1.0, "b": 1.0}, count, 1))[0] for count in (20, 2000))
    assert many.high - many.low < (few.high - few.low) / 3


def test_a_model_that_never_won_has_a_rating_and_one_against_itself_says_nothing() -> None:
    (won, lost) = ratings([("a", "b", "left")] * 5 + [("a", "a", "left")])
    assert won.model == "a" and lost.low < lost.rating < won.rating < won.high
    assert ratings([]) == []
