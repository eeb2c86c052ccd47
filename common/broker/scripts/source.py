"""The text of a script as the server gets it: the libraries it names, each once, its arguments by name, its own body.

A file names the libraries it uses in its first line (`-- with time, keys`), and gets those that they name in turn. Of
these only the definitions are taken whose names occur further down. The server makes every function and key of a script
anew with each call, and throws them away after it: a token's step with all that could ever be needed costs nearly twice
as much. So the second line may name what a call seldom needs (`-- rarely settle`): that, and all that nothing else
uses, is made when it is first called.
"""

import hashlib
import re
from functools import cache
from importlib import resources

from millstream.common.broker import scripts
from millstream.common.broker.scripts.declaration import unpacked

DEFINITION = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")
CLOSING = ("end", "}", ")")


@cache
def file_text(name: str) -> str:
    """Returns a file of this folder by its name without `.lua`, as `job/submit`."""
    return (resources.files(scripts) / f"{name}.lua").read_text()


def libraries_of(text: str) -> list[str]:
    """Returns the libraries a file names itself."""
    named = re.match(r"-- with ([\w, ]+)\n", text)
    return named[1].split(", ") if named else []


def rarely_of(text: str) -> list[str]:
    """Returns the functions of libraries that a script's call seldom needs."""
    named = re.search(r"^-- rarely ([\w, ]+)\n", text, re.MULTILINE)
    return named[1].split(", ") if named else []


@cache
def script_text(name: str) -> str:
    """Returns a whole script by the name of its file, as `job/submit`."""
    body = file_text(name)
    order: dict[str, str] = {}
    _gather(body, order)
    own = unpacked(body)
    return _libraries("\n".join(order.values()), own, rarely_of(body)) + own


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


def _statements(text: str) -> list[str]:
    """Returns the statements of a file that stand in no function, without the comments."""
    found: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("--"):
            continue
        if found and (line[0].isspace() or line.startswith(CLOSING)):
            found[-1] += line + "\n"
        else:
            found.append(line + "\n")
    return found


def _libraries(libraries: str, body: str, rarely: list[str]) -> str:
    """Returns what the body uses of the libraries, with all that only the functions `rarely` use in a function of its
    own."""
    all_of_them, words = _statements(libraries), _words("".join(_statements(body)))
    always = _used(all_of_them, words.difference(rarely))
    if not rarely:
        return "".join(always)
    rest = [each for each in _used(all_of_them, words) if each not in always]
    names = ", ".join(rarely)
    first_calls = (f"{name} = function(...) {names} = rarely() return {name}(...) end\n" for name in rarely)
    made = f"local {names}\nlocal function rarely()\n{''.join(rest)}return {names}\nend\n"
    return "".join((*always, made, *first_calls))


def _used(statements: list[str], words: set[str]) -> list[str]:
    """Returns the statements, but no definition of names that are neither among the words nor in a later statement."""
    taken: list[str] = []
    for statement in reversed(statements):
        defined = DEFINITION.match(statement)
        if not defined or words.intersection(defined[1].split(", ")):
            taken.append(statement)
            words |= _words(statement)
    return taken[::-1]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
