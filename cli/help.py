"""Help that reads well on a narrow terminal: an option's description stands below it, not in a narrow column."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from millstream.cli.moved_flags import moved

WIDEST = 100  # columns; longer lines are hard to read
ARGUMENTS, OPTIONS = "Arguments", "Options"
# typer carries a click of its own and publishes no name for its contexts and formatters: they are `Any` here.


class HelpCommand(TyperCommand):
    """A command whose options are told in groups, by the panel each was given. It knows another's flags, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = [name for parameter in self.get_params(ctx) for name in parameter.opts]
        if (hint := moved(args, known)) is not None:
            ctx.fail(hint)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)


class HelpGroup(TyperGroup):
    """A command with commands of its own, which come first in its help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)


def write_options(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    """Writes each group of options under its heading, those that are the command's own first."""
    groups = _groups(command, ctx)
    for heading in sorted(groups, key=[ARGUMENTS, OPTIONS, *groups].index):
        with formatter.section(heading):
            for names, text in groups[heading]:
                formatter.write_text(names)
                formatter.indent()
                with formatter.indentation():
                    formatter.write_text(text)
                formatter.dedent()


def _groups(command: TyperCommand | TyperGroup, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            heading = getattr(parameter, "rich_help_panel", None) or OPTIONS
            groups.setdefault(ARGUMENTS if parameter.param_type_name == "argument" else heading, []).append(record)
    return groups
