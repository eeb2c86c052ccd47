"""A script as Python calls it: its arguments by name, and checked against what the script says of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from operator import attrgetter
from types import NoneType
from typing import Any, Generic, Never, TypeVar, cast, get_args, get_origin, get_type_hints, overload

from millstream.common.broker.scripts.declaration import Argument, WrongDeclaration, declaration_of
from millstream.common.broker.scripts.source import file_text, script_sha, script_text

Arg = Any  # what redis-py encodes: str, bytes, int or float; its own annotation says str only
Head = TypeVar("Head")
Item = TypeVar("Item", bound=tuple[Any, ...])
GivenHead = TypeVar("GivenHead")
GivenItem = TypeVar("GivenItem", bound=tuple[Any, ...])


@dataclass(slots=True, kw_only=True)
class NoArguments:
    """For a script that needs none."""


class Script(Generic[Head, Item]):
    """One script. `head` is a dataclass with what the script's line `-- argv:` names, in whatever order, to be made by
    keywords only; `each` is a NamedTuple with what its line `-- each:` names, in that order. Raises `WrongDeclaration`
    where they differ. (The dataclasses are not frozen: each is made for one call, and that would cost it thrice.)"""

    @overload
    def __init__(self: "Script[GivenHead, Never]", name: str, head: type[GivenHead]) -> None: ...

    @overload
    def __init__(
        self: "Script[GivenHead, GivenItem]", name: str, head: type[GivenHead], each: type[GivenItem]
    ) -> None: ...

    def __init__(self, name: str, head: type[Any], each: type[Any] | None = None) -> None:
        declared = declaration_of(file_text(name))
        self.name = name
        if not all(field.kw_only for field in fields(head)):
            raise WrongDeclaration(f"{head.__name__} must be made by keywords only, or two values could change places.")
        _check(name, declared.head, head, ordered=False)
        _check(name, declared.each, each or NoArguments, ordered=True)
        self._values = _reader([argument.name for argument in declared.head])
        self._plain = sum(argument.plain for argument in declared.head)
        self._each_plain = sum(argument.plain for argument in declared.each)
        self._each_is_plain = self._each_plain == len(declared.each)

    @cached_property
    def text(self) -> str:
        """All of it, as the server gets it."""
        return script_text(self.name)

    @cached_property
    def sha(self) -> str:
        """Returns the hash by which the server knows the script."""
        return script_sha(self.name)

    def arguments(self, head: Head, items: Iterable[Item] = ()) -> list[Arg]:
        """Returns the call's ARGV."""
        values = self._values(head)
        flat = list(values[: self._plain])
        _add_lists(values[self._plain :], flat)
        if self._each_is_plain:
            flat += chain.from_iterable(items)
        else:
            for item in items:
                flat += item[: self._each_plain]
                _add_lists(item[self._each_plain :], flat)
        return flat


def _add_lists(values: Iterable[Any], flat: list[Arg]) -> None:
    """Lists and records with their lengths before them; a record may be None."""
    for value in values:
        if value:
            flat.append(len(value))
            flat += value
        else:
            flat.append(0)


def _reader(names: Sequence[str]) -> Callable[[object], tuple[Arg, ...]]:
    if not names:
        return lambda head: ()
    read = attrgetter(*names)
    return read if len(names) > 1 else lambda head: (read(head),)


def _check(script: str, declared: Sequence[Argument], given: type[Any], *, ordered: bool) -> None:
    hints = get_type_hints(given)
    names, found = [argument.name for argument in declared], list(hints)
    if (names if ordered else sorted(names)) != (found if ordered else sorted(found)):
        raise WrongDeclaration(f"{script}.lua declares {names}, {given.__name__} has {found}.")
    wrong = [argument.name for argument in declared if not _fits(script, argument, hints[argument.name])]
    if wrong:
        raise WrongDeclaration(f"{script}.lua and {given.__name__} differ in the type of {wrong}.")


def _fits(script: str, argument: Argument, hint: Any) -> bool:
    """Tells whether a value of this type is what the script takes it for. What is a number here may be text there."""
    while hasattr(hint, "__supertype__"):  # NewType
        hint = hint.__supertype__
    match argument.kind:
        case "list":
            return get_origin(hint) is Sequence
        case "record":
            (kind,) = cast(list[type[Any]], [each for each in get_args(hint) if each is not NoneType])
            _check(script, argument.fields, kind, ordered=True)
            return True
        case "number":
            return hint in (int, float)
        case "text":
            return get_origin(hint) is not Sequence
