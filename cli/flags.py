"""A settings class as the flags of a command: each field a flag, each flag a field, checked by the same model.

    app.command("gateway")(command_of(GatewaySettings, "Serve the API.", run))

A flag given beats the environment variable, which beats the default; `--help` shows both. Lists are given by repeating
the flag, with commas or as JSON.
"""

import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsError

from millstream.cli.help import OPTIONS
from millstream.common.settings import as_list, hand_to_children

S = TypeVar("S", bound=BaseSettings)


StartedParts = Mapping[str, type[BaseSettings]]


def command_of(
    settings: type[S],
    help: str,
    run: Callable[[S], None],
    places: Sequence[str] = (),
    parts: StartedParts = types.MappingProxyType({}),
) -> Callable[..., None]:
    """Returns a function typer can register: its parameters are the settings' fields, its body `run(settings)`. The
    fields in `places` are given by their place, without a flag. `parts`: the settings, by the heading of their options,
    of processes that this command starts; what is given of them stands in the environment when `run` is called."""

    def command(**given: Any) -> None:
        told = {name: value for name, value in given.items() if value is not None and value != []}
        hand_on(parts, {name: value for name, value in told.items() if name not in settings.model_fields})
        run(read(settings, {name: value for name, value in told.items() if name in settings.model_fields}))

    command.__doc__ = help
    parameters = [_argument(name, settings.model_fields[name]) for name in places]
    parameters += [_parameter(settings, *pair) for pair in settings.model_fields.items() if pair[0] not in places]
    parameters += _parameters_of(parts, {*settings.model_fields})
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010 (pyright knows no such attribute)
    return command


def group_of(settings: type[S], help: str, run: Callable[[S], None]) -> Callable[..., None]:
    """Returns the same for a command that has commands of its own: it runs when none of them is given."""

    def command(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is None:
            run(read(settings, {name: value for name, value in given.items() if value is not None and value != []}))

    command.__doc__ = help
    first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [_parameter(settings, *pair) for pair in settings.model_fields.items()]
    setattr(command, "__signature__", inspect.Signature([first, *parameters]))  # noqa: B010 (see above)
    return command


def hand_on(parts: StartedParts, given: Mapping[str, Any]) -> None:
    """Puts flags into the environment, where the processes that are started find them. Raises `typer.BadParameter` for
    what they would refuse."""
    for part in parts.values():
        mine = {name: value for name, value in given.items() if name in part.model_fields}
        if not mine:
            continue
        read(part, mine)
        for name, value in mine.items():
            listed = is_list(part.model_fields[name])
            hand_to_children(variable_of(part, name), json.dumps(_split(value)) if listed else str(value))


def read(settings: type[S], given: dict[str, Any]) -> S:
    """Returns the settings of flags `given`, environment and defaults. Raises `typer.BadParameter` naming flag and
    variable."""
    fields = settings.model_fields
    values: dict[str, Any] = {}
    try:
        values |= {name: _split(value) if is_list(fields[name]) else value for name, value in given.items()}
        return settings(**values)
    except ValidationError as error:
        problems = (_problem(settings, item["loc"], item["msg"]) for item in error.errors())
        raise typer.BadParameter("\n".join(problems)) from error
    except (SettingsError, ValueError) as error:
        raise typer.BadParameter(f"A list is given with commas, or as JSON: {error}") from error


def flag_of(name: str) -> str:
    """Returns the flag of a field: `max_jobs` is `--max-jobs`."""
    return "--" + name.replace("_", "-")


def variable_of(settings: type[BaseSettings], name: str) -> str:
    """Returns the environment variable of a field."""
    return f"{settings.model_config.get('env_prefix', '')}{name}".upper()


def is_list(field: FieldInfo) -> bool:
    """Tells whether the flag may be repeated."""
    return any(get_origin(kind) in (list, tuple) for kind in _alternatives(field.annotation))


def is_bool(field: FieldInfo) -> bool:
    """Tells whether the flag takes no value: `--x` or `--no-x`."""
    return bool in _alternatives(field.annotation)


def _parameters_of(parts: StartedParts, known: set[str]) -> list[inspect.Parameter]:
    """Returns the parameters of what is not `known`; a field that several parts have is asked for once."""
    found: dict[str, inspect.Parameter] = {}
    for heading, part in parts.items():
        for name, field in part.model_fields.items():
            if name not in known and name not in found:
                found[name] = _parameter(part, name, field, heading)
    return list(found.values())


def _parameter(settings: type[BaseSettings], name: str, field: FieldInfo, heading: str = OPTIONS) -> inspect.Parameter:
    flag = flag_of(name)
    option: Any = typer.Option(
        None,
        f"{flag}/--no-{flag[2:]}" if is_bool(field) else flag,
        help=f"{field.description or ''} {_origin(settings, name, field)}",
        metavar=None if is_bool(field) else _metavar(field),
        show_default=False,
        rich_help_panel=_heading(settings, name, heading),
    )
    kind = bool if is_bool(field) else list[str] if is_list(field) else str
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)


def _argument(name: str, field: FieldInfo) -> inspect.Parameter:
    argument: Any = typer.Argument(..., help=field.description or "", metavar=name.upper(), show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=str)


def _origin(settings: type[BaseSettings], name: str, field: FieldInfo) -> str:
    default = None if name == "redis_url" else field.get_default(call_default_factory=True, validated_data={})
    shown = "" if default in (None, "", [], PydanticUndefined) else f" [default: {default}]"
    return f"[env: {variable_of(settings, name)}]{shown}"


def _heading(settings: type[BaseSettings], name: str, usual: str) -> str:
    """Returns the `heading` of the class that declares the field; `usual` for what it has for itself."""
    declares = next(each for each in settings.__mro__ if name in inspect.get_annotations(each))
    return str(declares.__dict__.get("heading", usual))


def _metavar(field: FieldInfo) -> str:
    (kind, *_) = _alternatives(field.annotation)
    if get_origin(kind) is Literal:
        return "|".join(str(value) for value in get_args(kind))
    names = {int: "INTEGER", float: "NUMBER"}
    return names.get(kind, "TEXT")


def _alternatives(annotation: Any) -> list[Any]:
    """Returns the alternatives of a type: `int | None` is [int]."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for kind in get_args(annotation) if kind is not type(None)]
    return [annotation]


def _split(value: str | list[str]) -> list[Any]:
    return [part for item in ([value] if isinstance(value, str) else value) for part in as_list(item)]


def _problem(settings: type[BaseSettings], location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message
    name = str(location[0])
    return f"{flag_of(name)} (or {variable_of(settings, name)}): {message.removeprefix('Value error, ')}"
