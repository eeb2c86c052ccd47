"""The Lua scripts: what they take from the libraries they name, and no word that nobody declared."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

from millstream.common import broker
from millstream.common.broker.scripts.declaration import declaration_of
from millstream.common.broker.scripts.script import Script
from millstream.common.broker.scripts.source import libraries_of, rarely_of, script_text
from tests.architecture import lua

FOLDER = Path(__file__).parents[2] / "common" / "broker" / "scripts"
FILES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.lua"))
SCRIPTS = [name for name in FILES if not name.startswith("lib/")]
LIBRARIES = {path.stem: lua.top_names(path.read_text()) for path in (FOLDER / "lib").glob("*.lua")}


def source(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_the_libraries_it_uses_and_no_others(name: str) -> None:
    own = lua.top_names(source(name))
    used = {word.text for word in lua.names_used(source(name))} - own
    needed = {library for library, names in LIBRARIES.items() if used & names and f"lib/{library}" != name}
    assert set(libraries_of(source(name))) == needed


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_rarely_needs_are_functions_of_libraries_that_it_calls(name: str) -> None:
    called = {word.text for word in lua.names_used(source(name))}
    for rare in rarely_of(source(name)):
        assert rare in called
        assert any(f"local function {rare}(" in source(f"lib/{library}") for library in LIBRARIES)


def test_no_name_is_defined_in_two_libraries() -> None:
    names = [name for names in LIBRARIES.values() for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_word_of_a_script_is_declared(name: str) -> None:
    assert not lua.undeclared(script_text(name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_its_arguments_and_counts_none_by_hand(name: str) -> None:
    declared = declaration_of(source(name))
    words = {word.text for word in lua.names_used(source(name))}
    names = {local for argument in (*declared.head, *declared.each) for local in argument.locals}
    assert names <= words
    assert not re.search(r"ARGV\[\d|ARGV, \d|#ARGV", source(name))
    assert bool(declared.each) == ("in each() do" in source(name))


def test_every_script_is_called_with_arguments_that_were_checked() -> None:
    """`Script` compares its dataclasses with the script's own words when the module that calls it is imported."""
    modules = [import_module(each.name) for each in walk_packages(broker.__path__, f"{broker.__name__}.")]
    called = {id(value): value.name for module in modules for value in vars(module).values() if type(value) is Script}
    assert sorted(called.values()) == SCRIPTS


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("local a = {b = 1}\nreturn a.b + c", ["c (line 2)"]),
        ("local function f(x, y) return x + z end", ["z (line 1)"]),
        ("for i, each in ipairs(KEYS) do redis.call(i, each, each_one) end", ["each_one (line 1)"]),
        ("a = 1\nlocal a = 2", ["a (line 1)"]),
        ("local f = function(...) return ... end -- not me\nreturn f({'and not me', f = 1})", []),
    ],
)
def test_the_check_itself_sees_a_word_nobody_declared(text: str, wrong: list[str]) -> None:
    assert lua.undeclared(text) == wrong
