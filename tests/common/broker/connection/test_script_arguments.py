"""Arguments reach a script by their names; what does not agree with the script's own words is refused at import."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.scripts import script as scripts
from millstream.common.broker.scripts.declaration import WrongDeclaration, declaration_of, unpacked
from millstream.common.broker.scripts.script import NoArguments, Script

ECHO = """
-- argv: word count:number
-- argv: some:list more:list
-- each: id size:number parts:list last(state left:number)
local said = {word, count + 1, {}, {}}
for i = some_from, some_to do table.insert(said[3], ARGV[i]) end
for i = more_from, more_to do table.insert(said[4], ARGV[i]) end
for round = 1, 2 do
  for id, size, parts_from, parts_to, state, left in each() do
    local parts = {unpack(ARGV, parts_from, parts_to)}
    said[#said + 1] = {round, id, size + 1, #parts, parts[1] or '-', state or '-', left and left + 1 or '-'}
  end
end
return cjson.encode(said)
"""


class Last(NamedTuple):
    state: str
    left: int


class ExamplePart(NamedTuple):
    id: str
    size: int
    parts: Sequence[bytes]
    last: Last | None


@dataclass(slots=True, kw_only=True)
class EchoArgs:
    more: Sequence[str]
    some: Sequence[str]
    count: int
    word: str


def made(
    monkeypatch: pytest.MonkeyPatch, text: str, head: type[Any], each: type[Any] | None = None
) -> Script[Any, Any]:
    monkeypatch.setattr(scripts, "file_text", lambda name: text)
    return Script("echo", head, each) if each else Script("echo", head)


@pytest.mark.parametrize("some", [[], ["a"], ["a", "b", "c"]])
async def test_every_argument_arrives_under_its_name(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, some: list[str]
) -> None:
    echo = made(monkeypatch, ECHO, EchoArgs, ExamplePart)
    items = [
        ExamplePart("x", 1, [b"p", b"q"], None),
        ExamplePart("y", 2, [], Last("over", 8)),
        ExamplePart("z", 3, [b"r"], Last("", 0)),
    ]
    args = echo.arguments(EchoArgs(word="w", count=4, more=["m"], some=some), items)
    said = json.loads(await broker.redis.eval(unpacked(ECHO), 0, *args))  # type: ignore[misc]
    head, rows = said[:4], said[4:]
    assert head == ["w", 5, some or {}, ["m"]]
    assert rows[:3] == [[1, "x", 2, 2, "p", "-", "-"], [1, "y", 3, 0, "-", "over", 9], [1, "z", 4, 1, "r", "", 1]]
    assert [row[1:] for row in rows[3:]] == [row[1:] for row in rows[:3]]


async def test_without_items_or_arguments_there_is_nothing_to_unpack(broker: Broker) -> None:
    assert unpacked("return 1\n") == "return 1\n"
    loop = "-- each: id\nlocal n = 0\nfor id in each() do n = n + #id end\nreturn n"
    assert await broker.redis.eval(unpacked(loop), 0) == 0  # type: ignore[misc]


@dataclass(slots=True, kw_only=True)
class OneTooFew:
    some: Sequence[str]
    more: Sequence[str]
    count: int


@dataclass(slots=True, kw_only=True)
class OtherName(OneTooFew):
    wrod: str


@dataclass(slots=True, kw_only=True)
class TextForANumber:
    some: Sequence[str]
    more: Sequence[str]
    count: str
    word: str


@dataclass(slots=True, kw_only=True)
class TextForAList:
    some: Sequence[str]
    more: str
    count: int
    word: str


@dataclass(slots=True)
class ByPlace:
    word: str
    count: int
    some: Sequence[str]
    more: Sequence[str]


@pytest.mark.parametrize("head", [NoArguments, OneTooFew, OtherName, TextForANumber, TextForAList, ByPlace])
def test_a_head_that_differs_from_the_script_is_refused(monkeypatch: pytest.MonkeyPatch, head: type[Any]) -> None:
    with pytest.raises(WrongDeclaration):
        made(monkeypatch, ECHO, head, ExamplePart)


class Shifted(NamedTuple):
    size: int
    id: str
    parts: Sequence[bytes]
    last: Last | None


class Backwards(NamedTuple):
    left: int
    state: str


class OtherRecord(NamedTuple):
    id: str
    size: int
    parts: Sequence[bytes]
    last: Backwards | None


@pytest.mark.parametrize("each", [None, Shifted, OtherRecord])
def test_items_that_differ_from_the_script_are_refused(monkeypatch: pytest.MonkeyPatch, each: type[Any] | None) -> None:
    with pytest.raises(WrongDeclaration):
        made(monkeypatch, ECHO, EchoArgs, each)


@pytest.mark.parametrize(
    "text",
    [
        "-- argv: some:list word",
        "-- argv: word count:integer",
        "-- argv: word, count",
        "-- each: id size\nfor size, id in each() do end",
        "-- each: id size\nfor id in each() do end",
        "for id in each() do end",
    ],
)
def test_a_declaration_that_cannot_be_right_is_refused(text: str) -> None:
    with pytest.raises(WrongDeclaration):
        declaration_of(text)
