"""The map from models to servers: every form of the setting, and what is said of one that cannot be meant so."""

import re
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.connection.model_servers import ModelServers, read_places
from millstream.common.broker.connection.url import address
from millstream.common.job import ModelName
from millstream.common.settings import ClusterSettings

HOME = "redis://home:6379/0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("llama*=redis://b:6379/0", [("llama*", "redis://b:6379/0")]),
        (
            "a=redis://b, c=rediss://d:1/2?ssl_ca_certs=/x=y",
            [("a", "redis://b"), ("c", "rediss://d:1/2?ssl_ca_certs=/x=y")],
        ),
        ("a=unix:///run/r.sock?db=1\nb=redis://c,", [("a", "unix:///run/r.sock?db=1"), ("b", "redis://c")]),
        (
            "a=redis+sentinel://s:1,t:2/main,b=redis+cluster://u,v:3",
            [("a", "redis+sentinel://s:1,t:2/main"), ("b", "redis+cluster://u,v:3")],
        ),
        ("org/Model-7B:x=redis://u:p,w=1@b", [("org/Model-7B:x", "redis://u:p,w=1@b")]),
        ("模型*=redis://b", [("模型*", "redis://b")]),
    ],
)
def test_entries_are_read(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(place.pattern, place.url) for place in read_places(text)] == expected


def test_the_first_pattern_that_matches_counts() -> None:
    places = ModelServers(HOME, "llama-3=redis://a,llama*=redis://b,q?=redis://a,[x]=redis://home:6379/0")
    names = ("llama-3", "llama-31", "qw", "qwen", "x", "[x]", "LLAMA-3")
    assert [places.url_of(name) for name in names] == ["redis://a", "redis://b", "redis://a", HOME, HOME, HOME, HOME]
    assert places.others == ["redis://a", "redis://b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis://user:hunter2@b", "expected PATTERN=URL"),
        ("llama=b:6379", "expected PATTERN=URL"),
        ("=redis://b:hunter2@c", "expected PATTERN=URL"),
        ("a=redis://x:hunter2@b,c=d:6379", "`c` has no Redis URL"),
        ("a=redis://b,a=redis://:hunter2@c", "`a` stands there twice"),
        ("l*=redis://b,llama=redis://:hunter2@c", "`llama` is never reached: `l*` before it"),
        ("a=redis://h/x", "`a`: the database must be a number"),
        ("a=redis://u:hun/ter2@b", "`a`: no Redis URL: reserved characters"),
        ("a=http://b", "expected PATTERN=URL"),
    ],
)
def test_what_cannot_be_meant_is_named_without_its_password(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        read_places(text)
    assert "hunter2" not in str(raised.value) and "ter2" not in str(raised.value)


def test_it_is_checked_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_MODEL_REDIS", "a=redis://b,a=redis://c")
    with pytest.raises(ValidationError, match="stands there twice"):
        ClusterSettings()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@b:6379/0?password=secret", "b:6379/0"),
        ("redis+sentinel://:secret@s:1,t:2/main", "s:1,t:2/main"),
        ("unix:///run/r.sock?db=1", "/run/r.sock"),
        ("redis://user:se%3Fcret@b", "b"),
    ],
)
def test_a_label_has_no_secret(url: str, shown: str) -> None:
    assert address(url) == shown


@pytest.fixture
def place_of() -> Callable[[Broker, str], str]:
    return lambda broker, name: broker.of(ModelName(name)).url


async def test_a_broker_finds_the_way(place_of: Callable[[Broker, str], str]) -> None:
    async with Broker(HOME, model_redis="a*=redis://b,b=redis://b,h*=redis://home:6379/0") as broker:
        assert [each.url for each in broker.servers] == [HOME, "redis://b"]
        assert [place_of(broker, name) for name in ("a1", "b", "h1", "z")] == ["redis://b", "redis://b", HOME, HOME]
        assert broker.of(ModelName("z")) is broker.of(ModelName("h1")) is broker
        assert broker.of(ModelName("a1")) is broker.of(ModelName("b"))


async def test_without_a_map_everything_is_at_home() -> None:
    async with Broker(HOME) as broker:
        assert broker.of(ModelName("a")) is broker and list(broker.servers) == [broker]
