"""A script's declaration of its arguments, and the Lua that unpacks them by these names.

    -- argv: worker room:number           what the call is given: `worker`, `room` (a number)
    -- each: id lease chunks:list         what each of any number of items after it is given

An argument is text unless it says otherwise. Of a `list` the script gets the places in ARGV, here `chunks_from` to
`chunks_to`. `ending(state tokens:number)` is a record that may be missing: then its names are nil. Lists and records
come last. Items are read by `for id, lease, chunks_from, chunks_to in each() do`, with just these names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

ArgumentKind = Literal["text", "number", "list", "record"]

ARGUMENT = re.compile(r"(\w+)(?::(number|list))?(?:\(([^)]*)\))?(?: |$)")
LOOP = re.compile(r"\bfor ([\w, ]+) in each\(\) do\b")


class WrongDeclaration(Exception):
    """A script, what it says of its arguments, and the Python that calls it do not agree."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One name, and what it stands for."""

    name: str
    kind: ArgumentKind = "text"
    fields: tuple["Argument", ...] = ()  # of a record

    @property
    def plain(self) -> bool:
        """It takes one place in ARGV; a list or record takes one for its length and those of its values."""
        return self.kind in ("text", "number")

    @property
    def locals(self) -> list[str]:
        """Returns the names by which the script knows it."""
        match self.kind:
            case "list":
                return [f"{self.name}_from", f"{self.name}_to"]
            case "record":
                return [each.name for each in self.fields]
            case _:
                return [self.name]


@dataclass(frozen=True, slots=True)
class Declaration:
    """The arguments of a script, and those of each item after them."""

    head: tuple[Argument, ...] = ()
    each: tuple[Argument, ...] = ()


@dataclass(slots=True)
class _Place:
    """The position in ARGV at which the next argument lies: as far beyond the value of a Lua variable, if any."""

    beyond: str = ""
    offset: int = 1
    lines: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return " + ".join(str(part) for part in (self.beyond, self.offset) if part)

    def value(self, argument: Argument) -> str:
        """The Lua for the argument here; the place moves on."""
        found = f"ARGV[{self}]"
        self.offset += 1
        return f"tonumber({found})" if argument.kind == "number" else found

    def unpack(self, arguments: Sequence[Argument]) -> None:
        """Adds the lines that give every argument its name."""
        plain = [argument for argument in arguments if argument.plain]
        if plain:
            names, values = ", ".join(each.name for each in plain), ", ".join(self.value(each) for each in plain)
            self.lines.append(f"local {names} = {values}")
        for argument in arguments[len(plain) :]:
            count, end = str(self), f"{argument.name}_to"
            self.offset += 1
            self.lines.append(f"local {argument.name}_from, {end} = {self}, {count} + ARGV[{count}]")
            if argument.kind == "record":
                self._unpack_record(argument, f"{argument.name}_from")
            self.beyond, self.offset = end, 1

    def _unpack_record(self, record: Argument, first: str) -> None:
        names, place = ", ".join(record.locals), _Place(first, 0)
        values = ", ".join(place.value(each) for each in record.fields)
        self.lines.append(f"local {names}")
        self.lines.append(f"if {record.name}_to >= {first} then {names} = {values} end")


def declaration_of(script: str) -> Declaration:
    """Raises `WrongDeclaration` if lists do not come last, or a loop over the items uses other names."""
    head, each = (_arguments(script, word) for word in ("argv", "each"))
    for arguments in (head, each):
        if [argument.plain for argument in arguments] != sorted((a.plain for a in arguments), reverse=True):
            raise WrongDeclaration("Lists and records come after all other arguments.")
    names = ", ".join(name for argument in each for name in argument.locals)
    for loop in LOOP.findall(script):
        if loop != names:
            raise WrongDeclaration(f"The items are '{names}', not '{loop}'.")
    return Declaration(head, each)


def _arguments(script: str, word: str) -> tuple[Argument, ...]:
    lines = re.findall(rf"^-- {word}: (.+)$", script, re.MULTILINE)
    return _parse(" ".join(lines))


def _parse(text: str) -> tuple[Argument, ...]:
    found: list[Argument] = []
    at = 0
    while at < len(text):
        match = ARGUMENT.match(text, at)
        if not match:
            raise WrongDeclaration(f"Not a declaration of arguments: '{text[at:]}'.")
        name, fields = match[1], match[3]
        kind = cast(ArgumentKind, match[2] or "text")
        found.append(Argument(name, "record", _parse(fields)) if fields else Argument(name, kind))
        at = match.end()
    return tuple(found)


def unpacked(script: str) -> str:
    """Returns the script with the Lua before it that gives its arguments their names; its loops over the items are
    plain ones that do the same, without a function call for each item."""
    declaration = declaration_of(script)
    head = _Place()
    head.unpack(declaration.head)
    item = _Place("each_at", 0)
    item.unpack(declaration.each)
    start = f"local each_at, each_last = {head}, #ARGV\nwhile each_at <= each_last do"
    loop = "\n".join([start, *item.lines, f"each_at = {item}"])
    return "".join(line + "\n" for line in head.lines) + LOOP.sub(loop, script)
