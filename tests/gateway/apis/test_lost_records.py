"""A record that Redis has lost is not called unknown."""

import time
from pathlib import Path

import httpx
import pytest

from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.errors import NotFound, RecordLost
from millstream.gateway.records.lost import missing
from tests.gateway.background.cluster import gateway

UPTIME = 20.0


def made(family: str, seconds_ago: float) -> str:
    return f"{family}{int(time.time() - seconds_ago):08x}001{0:05x}{7:016x}"


@pytest.mark.parametrize(("seconds_ago", "lost"), [(10, False), (30, True), (70, True), (200, False)])
def test_what_was_made_just_before_the_restart_was_lost(seconds_ago: float, lost: bool) -> None:
    error = missing("No such thing", "id", made("resp_", seconds_ago), UPTIME)
    assert isinstance(error, RecordLost) == lost
    assert ("Redis was restarted" in error.message) == lost


def test_where_the_id_does_not_tell_the_restart_is_only_mentioned() -> None:
    error = missing("No such batch: batch_1", "batch_id", "batch_1", UPTIME)
    assert type(error) is NotFound and "Redis was restarted 20 s ago" in error.message
    assert missing("No such batch: batch_1", "batch_id", "batch_1", 10_000).message == "No such batch: batch_1."


async def test_a_client_is_told(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with gateway(own_valkey.url, tmp_path) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        for path in (f"/v1/responses/{made('resp_', 55)}", f"/v1/chat/completions/{made('chatcmpl-', 55)}"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "record_lost")
        batch = (await http.get("/v1/batches/batch_1")).json()["error"]
        assert batch["code"] == "not_found" and "what was made just before that may be lost" in batch["message"]
