"""docs/protocol.md is true to the code: every key, script and field of a chunk, and nothing else."""

import inspect
import re
from pathlib import Path

import pytest

from millstream.common.broker import keys
from millstream.common.chunk import Chunk
from tests.architecture import lua

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "common" / "broker" / "scripts"
PAGE = (ROOT / "docs" / "protocol.md").read_text()
ASIDE = {"stream_key"}  # takes the name of any stream
ALONE = ("load_request", "loading", "loaders", "upkeep", "looked_for", "astray")
PYTHON_ALONE = {f"ms:{{model}}:{name}" for name in ALONE}
NAMES = {"model": "model", "job_id": "<job>", "worker_id": "<worker>", "digest": "<digest>"}


def keys_of_python() -> set[str]:
    made = {value for value in vars(keys).values() if isinstance(value, str) and value.startswith("ms:")}
    for name, function in inspect.getmembers(keys, inspect.isfunction):
        if function.__module__ == keys.__name__ and not name.endswith("prefix"):
            parameters = inspect.signature(function).parameters
            made.add(function(*(NAMES.get(each, f"<{each}>") for each in parameters)))
    return made


def keys_of_the_scripts() -> dict[str, str]:
    made = lua.key_patterns((SCRIPTS / "lib" / "keys.lua").read_text())
    return {name: key for name, key in made.items() if name not in ASIDE}


def first_cells(heading: str) -> set[str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_the_keys_are_those_of_the_code() -> None:
    assert first_cells("Keys") == keys_of_python() | set(keys_of_the_scripts().values())


def test_python_and_the_scripts_mean_the_same_keys() -> None:
    """A key in one slot with a script's keys is the script's too, but for those that no transition touches."""
    scripts = keys_of_the_scripts()
    assert len(set(scripts.values())) == len(scripts)
    alone = keys_of_python() - set(scripts.values())
    assert {key for key in alone if key.startswith("ms:{")} == PYTHON_ALONE


def test_the_scripts_keys_are_all_used_and_spelt_in_one_file() -> None:
    families = {key.rpartition("}:")[2].partition("<")[0] for key in keys_of_the_scripts().values()}
    starts = ("ms:", *(family for family in families if family.endswith(":")))
    used: set[str] = set()
    for path in SCRIPTS.rglob("*.lua"):
        if path.name != "keys.lua":
            words = lua.tokens(path.read_text())
            used |= {word.text for word in words if word.kind == "name"}
            texts = [word.text[1:-1] for word in words if word.kind == "text"]
            assert not [text for text in texts if text.startswith(starts)], path
    assert not used & {"P", "KEYS"}
    assert set(keys_of_the_scripts()) <= used


def test_the_check_itself_reads_keys_as_they_are_made() -> None:
    text = "-- ms:{a}:\nlocal function f(x, y) return P .. 'b:' .. x .. ':' .. y end\nlocal G = P .. 'g'\n"
    assert lua.key_patterns(text) == {"f": "ms:{a}:b:<x>:<y>", "G": "ms:{a}:g"}
    with pytest.raises(AssertionError):
        lua.key_patterns("local function f(x)\n  return x\nend")


def test_the_scripts_are_those_of_the_code() -> None:
    files = {path.relative_to(SCRIPTS).with_suffix("") for path in SCRIPTS.rglob("*.lua")}
    assert first_cells("Scripts") == {str(name) for name in files if name.parts[0] != "lib"}


def test_every_field_of_a_chunk_is_named() -> None:
    section = PAGE.split("## Chunks and frames\n")[1]
    missing = [name for name in Chunk.__struct_fields__ if f"`{name}`" not in section]
    assert not missing


def test_no_other_file_spells_a_key() -> None:
    spelt = [
        str(path.relative_to(ROOT))
        for room in ("common", "gateway", "worker", "cli")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "keys.py" and re.search(r"""["'](ms:|f"ms:)""", path.read_text())
    ]
    assert not spelt
