"""Static keys from a file, which no list of processes shows."""

from pathlib import Path

import httpx
import pytest

from millstream.gateway.app import create_app
from millstream.gateway.settings import GatewaySettings
from tests.gateway.conftest import gateway
from tests.gateway.scripted import ScriptedCluster


async def test_each_line_is_a_key_beside_those_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# our teams\n\nteam-a:sk-aaaaaaaaaaaaaaaa\n  team-b:sk-bbbbbbbbbbbbbbbb  \n")
    settings = {"api_keys_file": file, "api_keys": ["team-c:sk-cccccccccccccccc"]}
    async with gateway(ScriptedCluster(), **settings) as url, httpx.AsyncClient(base_url=url) as http:
        for letter in "abc":
            answer = await http.get("/v1/models", headers={"Authorization": f"Bearer sk-{letter * 16}"})
            assert answer.status_code == 200
        for wrong in ("", "# our teams", "sk-dddddddddddddddd"):
            assert (await http.get("/v1/models", headers={"x-api-key": wrong})).status_code == 401


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    with pytest.raises(ValueError, match=r"MILLSTREAM_API_KEYS_FILE.*nowhere"):
        create_app(GatewaySettings(api_keys_file=tmp_path / "nowhere"), cluster.connect)
    secret = tmp_path / "keys"
    secret.write_text("sk-without-a-tenant\n")
    with pytest.raises(ValueError, match="tenant:key") as told:
        create_app(GatewaySettings(api_keys_file=secret), cluster.connect)
    assert "without-a-tenant" not in str(told.value)
