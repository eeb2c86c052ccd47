"""docs/protocol.md is true to the code: every key, script and field of a chunk, and nothing else."""

import inspect
import re
from pathlib import Path

from millstream.common.broker import keys
from millstream.common.chunk import Chunk

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "common" / "broker" / "scripts"
PAGE = (ROOT / "docs" / "protocol.md").read_text()
NAMES = {"model": "model", "job_id": "<job>", "worker_id": "<worker>", "digest": "<digest>"}


def keys_in_the_code() -> set[str]:
    made = {value for value in vars(keys).values() if isinstance(value, str) and value.startswith("ms:")}
    for name, function in inspect.getmembers(keys, inspect.isfunction):
        if function.__module__ == keys.__name__ and not name.endswith("prefix"):
            parameters = inspect.signature(function).parameters
            made.add(function(*(NAMES.get(each, f"<{each}>") for each in parameters)))
    return made


def first_cells(heading: str) -> set[str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_the_keys_are_those_of_the_code() -> None:
    assert first_cells("Keys") == keys_in_the_code()


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
