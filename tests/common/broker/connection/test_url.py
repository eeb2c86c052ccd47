"""Every URL of Redis that is understood, and what is said of one that is not."""

from pathlib import Path

import pytest
from redis.asyncio import Redis, SSLConnection

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, open_client
from millstream.common.broker.connection.url import parse, without_secrets
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import announce
from millstream.common.job import ModelName


@pytest.mark.parametrize(
    ("url", "hosts", "service"),
    [
        ("redis+sentinel://a,b:2/main", [("a", 26379), ("b", 2)], "main"),
        ("redis+sentinel://[::1]:7", [("::1", 7)], "mymaster"),
        ("redis+cluster://a,b:2", [("a", 6379), ("b", 2)], "mymaster"),
    ],
)
def test_several_servers(url: str, hosts: list[tuple[str, int]], service: str) -> None:
    place = parse(url)
    assert (place.hosts, place.service, place.options) == (hosts, service, {})


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
def test_a_login_is_percent_encoded_everywhere(scheme: str) -> None:
    options = parse(f"{scheme}://m%40e:p%2Fw%3A@h").options
    assert (options["username"], options["password"]) == ("m@e", "p/w:")


def test_a_database_can_be_chosen_behind_sentinel_too() -> None:
    assert parse("redis://h/3").options["db"] == parse("redis+sentinel://h/main/3").options["db"] == 3


def test_tls_and_its_options_reach_servers_and_sentinels() -> None:
    assert parse("rediss://h?ssl_ca_certs=/ca.pem").options["connection_class"] is SSLConnection
    for kind in ("sentinel", "cluster"):
        options = parse(f"rediss+{kind}://h?ssl_ca_certs=/ca.pem").options
        assert (options["ssl"], options["ssl_ca_certs"]) == (True, "/ca.pem")


async def test_a_sentinel_may_have_a_password_of_its_own() -> None:
    pool = open_client("rediss+sentinel://:main@h?sentinel_password=own&ssl_cert_reqs=none").connection_pool
    [sentinel] = getattr(pool, "sentinel_manager").sentinels  # noqa: B009 (only a Sentinel's pool has it)
    asked, served = sentinel.connection_pool.connection_kwargs, pool.connection_kwargs
    assert (asked["password"], served["password"]) == ("own", "main")
    assert asked["ssl_cert_reqs"] == served["ssl_cert_reqs"] == "none"
    assert asked.get("ssl") or sentinel.connection_pool.connection_class is SSLConnection


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "http://h",
        "redis://",
        "redis://:secret/word@h",
        "redis://:secret#word@h:1",
        "redis://h/secret",
        "redis://h:secret",
        "redis+cluster://h/0",
        "redis+sentinel://,h",
        "redis+sentinel://h:secret",
        "redis://h?socket_timeout=secret",
    ],
)
def test_a_wrong_one_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:SECRET@h:6379/0",
        "redis://user:SECRET@h:6379/0",
        "redis://user:SE/CRET?SECRET@h",
        "rediss://h/0?password=SECRET&ssl_cert_reqs=none",
        "redis://h/0?Password=SECRET@x",
        "redis+sentinel://user:SECRET@h:1,h:2/main/0?sentinel_password=SECRET",
        "redis://h/0?ssl_pass%77ord=SECRET",
        "unix://user:SECRET@/run/redis.sock?db=2",
    ],
)
def test_no_form_shows_its_password(url: str) -> None:
    shown = without_secrets(url)
    assert "SECRET" not in shown and "***" in shown
    assert shown.startswith(url.partition("://")[0])


def test_what_is_no_secret_is_shown() -> None:
    for url in ("redis://127.0.0.1:6379/0", "redis+cluster://a:1,b:2", "rediss://h/0?ssl_cert_reqs=none&db=3"):
        assert without_secrets(url) == url


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    socket = tmp_path / "v.sock"
    async with (
        EmbeddedValkey(tmp_path, options=["--unixsocket", str(socket)]) as valkey,
        Broker(f"unix://{socket}?db=2") as broker,
        Redis.from_url(f"{valkey.url[:-1]}2") as client,
    ):
        await announce(broker, ModelName("tiny"))
        assert await client.smembers(keys.MODELS) == {b"tiny"}
