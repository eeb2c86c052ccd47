"""Commands that have commands of their own: `millstream models …` and `millstream keys …`."""

import asyncio

import typer

from millstream.cli.flags import command_of, group_of
from millstream.cli.help import HelpCommand, HelpGroup
from millstream.cli.settings import (
    ForgetSettings,
    KeyTerms,
    LimitSettings,
    LoadSettings,
    ModelFilesSettings,
    PolicySettings,
    RevokeSettings,
)
from millstream.common.settings import ClusterSettings, Settings


def models_group() -> typer.Typer:
    """Returns `models` and its commands: those for the cluster, and those for the files on this machine."""
    group = typer.Typer(
        cls=HelpGroup,
        rich_markup_mode=None,
        invoke_without_command=True,
        callback=group_of(ClusterSettings, "List the models and their queues.", _models),
    )
    policy = command_of(PolicySettings, "Choose how a model's jobs are routed.", _policy, ("model", "policy"))
    group.command("policy", cls=HelpCommand)(policy)
    group.command("load", cls=HelpCommand)(
        command_of(LoadSettings, "Let a worker load a model it is configured for.", _load, ("model",))
    )
    unload = command_of(LoadSettings, "Let all workers unload a model; the next request loads it.", _unload, ("model",))
    group.command("unload", cls=HelpCommand)(unload)
    group.command("forget", cls=HelpCommand)(
        command_of(ForgetSettings, "Unlist a model without workers.", _forget, ("model",))
    )
    group.command("list", cls=HelpCommand)(command_of(Settings, "List the models on this machine's disk.", _kept))
    for name, tells, run in (
        ("pull", "Fetch a model to this machine; one that broke off goes on.", _pull),
        ("verify", "Compare a model's files here with what its source says.", _verify),
        ("remove", "Remove a model's files from this machine.", _remove),
    ):
        group.command(name, cls=HelpCommand)(command_of(ModelFilesSettings, tells, run, ("model",)))
    return group


def keys_group() -> typer.Typer:
    """Returns the commands `keys create`, `keys list`, `keys limit`, `keys revoke`."""
    group = typer.Typer(
        cls=HelpGroup, rich_markup_mode=None, help="Make, list, limit and revoke API keys.", no_args_is_help=True
    )
    group.command("create", cls=HelpCommand)(command_of(KeyTerms, "Make an API key; it is shown this once.", _create))
    group.command("list", cls=HelpCommand)(command_of(ClusterSettings, "List the API keys.", _list))
    group.command("limit", cls=HelpCommand)(command_of(LimitSettings, "Change what a key may do.", _limit, ("id",)))
    group.command("revoke", cls=HelpCommand)(command_of(RevokeSettings, "Refuse a key from now on.", _revoke, ("id",)))
    return group


def _models(settings: ClusterSettings) -> None:
    from millstream.cli.inspect.tables import show_models

    asyncio.run(show_models(settings))


def _policy(settings: PolicySettings) -> None:
    from millstream.cli.admin.models import set_policy

    asyncio.run(set_policy(settings))


def _load(settings: LoadSettings) -> None:
    from millstream.cli.admin.models import ask_workers

    asyncio.run(ask_workers(settings, "load"))


def _unload(settings: LoadSettings) -> None:
    from millstream.cli.admin.models import ask_workers

    asyncio.run(ask_workers(settings, "unload"))


def _forget(settings: ForgetSettings) -> None:
    from millstream.cli.admin.models import forget

    asyncio.run(forget(settings))


def _kept(settings: Settings) -> None:
    from millstream.cli.admin.model_files import show_kept

    show_kept()


def _pull(settings: ModelFilesSettings) -> None:
    from millstream.cli.admin.model_files import fetch

    fetch(settings)


def _verify(settings: ModelFilesSettings) -> None:
    from millstream.cli.admin.model_files import check

    raise typer.Exit(check(settings))


def _remove(settings: ModelFilesSettings) -> None:
    from millstream.cli.admin.model_files import discard

    discard(settings)


def _create(settings: KeyTerms) -> None:
    from millstream.cli.admin.keys import create

    asyncio.run(create(settings))


def _list(settings: ClusterSettings) -> None:
    from millstream.cli.admin.keys import show_keys

    asyncio.run(show_keys(settings))


def _limit(settings: LimitSettings) -> None:
    from millstream.cli.admin.keys import limit

    asyncio.run(limit(settings))


def _revoke(settings: RevokeSettings) -> None:
    from millstream.cli.admin.keys import revoke

    asyncio.run(revoke(settings))
