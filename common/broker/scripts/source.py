"""The text of a script as the server gets it: the libraries it names, each once, its arguments by name, its own body.

A file names the libraries it uses in its first line (`-- with time, keys`), and gets those that they name in turn. Of
`lib/keys.lua` only the definitions are taken whose names occur further down: a key costs a call only where it is used.
"""

import hashlib
import re
from functools import cache
from importlib import resources

from millstream.common.broker import scripts
from millstream.common.broker.scripts.declaration import unpacked

KEYS = "keys"
DEFINITION = re.compile(r"local (?:function )?(\w+)")


@cache
def file_text(name: str) -> str:
    """Returns a file of this folder by its name without `.lua`, as `job/submit`."""
    return (resources.files(scripts) / f"{name}.lua").read_text()


def libraries_of(text: str) -> list[str]:
    """Returns the libraries a file names itself."""
    named = re.match(r"-- with ([\w, ]+)\n", text)
    return named[1].split(", ") if named else []


@cache
def script_text(name: str) -> str:
    """Returns a whole script by the name of its file, as `job/submit`."""
    body = file_text(name)
    order: dict[str, str] = {}
    _gather(body, order)
    keys = order.pop(KEYS, "")
    rest = "\n".join([*order.values(), unpacked(body)])
    return _only_used(keys, rest) + rest


@cache
def script_sha(name: str) -> str:
    """Returns the hash by which the server knows a script."""
    return hashlib.sha1(script_text(name).encode(), usedforsecurity=False).hexdigest()


def _gather(text: str, order: dict[str, str]) -> None:
    """Adds the libraries a text needs, each after those that it needs itself."""
    for library in libraries_of(text):
        if library not in order:
            own = file_text(f"lib/{library}")
            _gather(own, order)
            order[library] = own


def _only_used(definitions: str, text: str) -> str:
    """Returns the lines that define a name which occurs in the text, or in a later line that is taken."""
    taken: list[str] = []
    used = set(re.findall(r"\w+", text))
    for line in reversed(definitions.splitlines()):
        name = DEFINITION.match(line)
        if name and name[1] in used:
            taken.insert(0, line + "\n")
            used |= set(re.findall(r"\w+", line))
    return "".join(taken)
