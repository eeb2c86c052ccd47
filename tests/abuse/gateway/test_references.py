"""A small body that refers to a large stored turn thousands of times."""

import json
from pathlib import Path
from typing import Any

import pytest

from millstream.common.broker.embedded import EmbeddedValkey
from tests.abuse.gateway.attacked import MODEL, AttackScene, scene

RESPONSES = "/v1/responses"


async def created(attacked: AttackScene, **fields: Any) -> Any:
    answer = await attacked.attack(RESPONSES, json.dumps({"model": MODEL, "max_output_tokens": 1, **fields}).encode())
    return answer.json()


@pytest.mark.timeout(300)
async def test_references_cost_as_much_as_what_they_stand_for(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with scene(own_valkey, tmp_path) as attacked:
        stored = await created(attacked, input=("word" * 250 + " ") * 1000, background=True)
        listed = (await attacked.http.get(f"{RESPONSES}/{stored['id']}/input_items")).json()
        item = {"type": "item_reference", "id": listed["data"][0]["id"]}
        for many in (3000, 16384, 100_000):
            with attacked.lean():
                async with attacked.watched() as neighbour:
                    answer = await created(attacked, input=[item] * many)
                print(f"{many} references: {answer['error']['message'][:80]}, neighbour {neighbour.answers} answers")
            assert answer["error"]["param"] in ("input", None), answer
