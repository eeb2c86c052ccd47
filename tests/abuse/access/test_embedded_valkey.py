"""Other users of the machine reach the embedded Valkey's port, but not its password."""

import stat
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.embedded_access import FOLDER, running_url
from millstream.common.settings import USUAL_REDIS, ClusterSettings


async def test_without_the_password_nothing_is_read_or_written(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path / FOLDER, protected=True) as valkey:
        password = (tmp_path / FOLDER / "password").read_text().strip()
        async with Redis(host="127.0.0.1", port=valkey.port) as stranger:
            for command in (["GET", "x"], ["HSET", "ms:keys", "a", "b"], ["CONFIG", "GET", "*"], ["SHUTDOWN"]):
                with pytest.raises(AuthenticationError):
                    await stranger.execute_command(*command)
        async with Broker(valkey.url) as broker:
            await broker.ping()
        assert len(password) >= 32 and password in valkey.url
        assert not [part for part in psutil.Process(valkey.pid).cmdline() if password in part]
        secrets = [path for path in tmp_path.rglob("*") if path.is_file() and password in path.read_text("latin-1")]
        assert sorted(path.name for path in secrets) == ["password", "valkey.conf"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
        assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700
        await valkey.restart()  # and it is the same one afterwards
        async with Broker(valkey.url) as broker:
            await broker.ping()
        url = valkey.url
    async with EmbeddedValkey(tmp_path / FOLDER, protected=True) as again:
        assert again.url == url


async def test_other_commands_find_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_STATE_DIR", str(tmp_path))
    assert ClusterSettings().redis_url == USUAL_REDIS
    async with EmbeddedValkey(tmp_path / FOLDER, protected=True) as valkey:
        assert ClusterSettings().redis_url == valkey.url == running_url(tmp_path)
    assert running_url(tmp_path) is None  # it stands still: its address may be another server's by now
    assert ClusterSettings().redis_url == USUAL_REDIS
