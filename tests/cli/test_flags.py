"""Every field of a settings class is a flag of its command, every flag a setting, and one model checks both."""

import inspect
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from pydantic import Field
from pydantic_settings import BaseSettings
from typer.testing import CliRunner

from millstream.bench.chaos.settings import ChaosSettings
from millstream.bench.command.settings import BenchSettings
from millstream.cli.flags import command_of, flag_of, is_bool, read, variable_of
from millstream.cli.help import HelpCommand
from millstream.cli.main import PARTS, app
from millstream.cli.moved_flags import FASTCHAT
from millstream.cli.settings import (
    BatchesSettings,
    ChatSettings,
    DoctorSettings,
    JobsSettings,
    TopSettings,
    UpSettings,
    WorkersSettings,
)
from millstream.common.settings import ClusterSettings, Settings
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.settings import GatewaySettings
from millstream.worker.settings import WorkerSettings

COMMANDS: dict[str, type[BaseSettings]] = {
    "up": UpSettings,
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "background": BackgroundSettings,
    "chaos": ChaosSettings,
    "batches": BatchesSettings,
    "chat": ChatSettings,
    "doctor": DoctorSettings,
    "top": TopSettings,
    "usage": ClusterSettings,
    "workers": WorkersSettings,
    "jobs": JobsSettings,
    "bench": BenchSettings,
}


class Sample(Settings):
    """One field of each kind."""

    name: str = Field(default="x", description="A [bracketed] word.")
    count: int = Field(default=1, ge=1)
    rate: float | None = None
    loud: bool = False
    quiet: bool = True
    kind: Literal["a", "b"] = "a"
    keys: list[str] = []
    place: Path | None = None


def run(*arguments: str) -> Sample | str:
    """Returns what the command was called with, or the error it printed."""
    seen: list[Sample] = []
    one = typer.Typer(rich_markup_mode=None)
    one.command(cls=HelpCommand)(command_of(Sample, "Try.", seen.append))
    result = CliRunner().invoke(one, arguments, env={"COLUMNS": "200", "TERM": "dumb"})
    return seen[0] if seen else re.sub(r"\s+", " ", result.output)


def test_each_kind_of_field_can_be_given_as_a_flag() -> None:
    given = ["--name", "n", "--count", "3", "--rate", "0.5", "--loud", "--no-quiet", "--kind", "b", "--place", "/p"]
    settings = run(*given, "--keys", "one,two", "--keys", "three")
    expected: dict[str, Any] = {
        "name": "n", "count": 3, "rate": 0.5, "loud": True, "quiet": False, "kind": "b",
        "keys": ["one", "two", "three"], "place": Path("/p"),
    }  # fmt: skip
    assert settings == Sample(**expected)


def test_flag_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_COUNT", "7")
    monkeypatch.setenv("MILLSTREAM_KEYS", '["a"]')
    monkeypatch.setenv("MILLSTREAM_LOUD", "true")
    assert run("--no-loud") == Sample(name="x", count=7, keys=["a"], loud=False)
    assert run("--count", "8") == Sample(name="x", count=8, keys=["a"], loud=True)


@pytest.mark.parametrize("text", ["a:b,c:d", " a:b , c:d,", '["a:b", "c:d"]'])
def test_a_list_is_given_the_same_ways_as_flag_and_as_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delenv("MILLSTREAM_API_KEYS", raising=False)
    assert read(GatewaySettings, {"api_keys": [text]}).api_keys == ["a:b", "c:d"]
    monkeypatch.setenv("MILLSTREAM_API_KEYS", text)
    assert read(GatewaySettings, {}).api_keys == ["a:b", "c:d"]


def test_a_broken_list_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(typer.BadParameter, match="commas, or as JSON"):
        read(GatewaySettings, {"api_keys": ['["a']})
    monkeypatch.setenv("MILLSTREAM_API_KEYS", '["a')
    with pytest.raises(typer.BadParameter, match="commas, or as JSON"):
        read(GatewaySettings, {})


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_SLOTS", "")
    assert read(WorkerSettings, {}).slots is None


@pytest.mark.parametrize("settings", [ClusterSettings, UpSettings, BackgroundSettings])
def test_a_redis_url_is_checked_before_anything_starts(settings: type[ClusterSettings]) -> None:
    with pytest.raises(typer.BadParameter, match=r"--redis-url \(or MILLSTREAM_REDIS_URL\)") as refused:
        read(settings, {"redis_url": "http://:hidden@h"})
    assert "hidden" not in str(refused.value)


def test_a_wrong_value_is_told_with_its_flag_and_variable() -> None:
    assert "--count (or MILLSTREAM_COUNT): Input should be greater than or equal to 1" in run("--count", "0")
    assert "--kind (or MILLSTREAM_KIND): Input should be 'a' or 'b'" in run("--kind", "c")


def test_a_wrong_variable_is_told_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_RATE", "fast")
    with pytest.raises(typer.BadParameter, match=r"--rate \(or MILLSTREAM_RATE\)"):
        read(Sample, {})


def test_help_shows_variable_default_and_text_as_it_is() -> None:
    shown = run("--help")
    assert isinstance(shown, str)
    assert "A [bracketed] word. [env: MILLSTREAM_NAME] [default: x]" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_a_flag_and_every_flag_a_field(command: str) -> None:
    settings = COMMANDS[command]
    (registered,) = [c for c in app.registered_commands if c.name == command]
    assert registered.callback is not None
    flags = {
        part
        for parameter in inspect.signature(registered.callback).parameters.values()
        for declared in parameter.default.param_decls
        for part in declared.split("/")
    }
    fields = dict(settings.model_fields)
    if command == "up":
        fields = {name: field for part in PARTS.values() for name, field in part.model_fields.items()} | fields
    on = {flag_of(name) for name in fields}
    off = {f"--no-{name.replace('_', '-')}" for name, field in fields.items() if is_bool(field)}
    assert flags == on | off


@pytest.mark.parametrize("settings", COMMANDS.values())
def test_every_field_has_one_variable_and_says_what_it_is(settings: type[BaseSettings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name
        assert field.validation_alias is None, name  # the variable would not be the prefix and the name
        assert variable_of(settings, name).startswith("MILLSTREAM_")
        assert variable_of(settings, name).endswith(name.upper())


def test_every_command_has_a_settings_class_or_takes_nothing() -> None:
    named = {command.name for command in app.registered_commands}
    assert named - set(COMMANDS) == {"version"}


def test_what_kubernetes_says_of_a_service_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_PORT", "tcp://10.43.1.39:8000")
    assert read(GatewaySettings, {}).port == 8000
    assert read(GatewaySettings, {"port": "9"}).port == 9
    monkeypatch.setenv("MILLSTREAM_PORT", "nonsense")
    with pytest.raises(typer.BadParameter, match="MILLSTREAM_PORT"):
        read(GatewaySettings, {})


def test_the_version_is_an_option_too() -> None:
    option, command = (CliRunner().invoke(app, [word]) for word in ("--version", "version"))
    assert option.exit_code == 0 and option.output == command.output != ""


@pytest.mark.parametrize("command", [*COMMANDS, "models policy", "keys limit"])
def test_help_is_read_on_a_narrow_terminal(command: str) -> None:
    """No description is cut short or pressed into a column, and a command's own options come before those of all."""
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80"}).output
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in shown
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[0] in ("Arguments:", "Options:")
    told, pressed = " ".join(shown.split()), "".join(shown.split())
    settings = COMMANDS.get(command, ClusterSettings)
    for name, field in settings.model_fields.items():
        assert flag_of(name) in told and "".join((field.description or "").split()) in pressed
    if command in COMMANDS:
        example = told.partition("Example: millstream ")[2]
        known = {flag_of(name) for name in settings.model_fields} | {
            f"--no-{flag_of(name)[2:]}" for name in settings.model_fields
        }
        assert example.split()[0] == command
        assert {word for word in example.split() if word.startswith("--")} <= known


def test_flags_of_the_parts_reach_them_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DTYPE", "SLOTS", "CORS_ORIGINS", "KEEP_ALIVE", "TRUST_REMOTE_CODE"):
        monkeypatch.setenv(f"MILLSTREAM_{name}", "")  # so that it is as before when the test is over
    one, seen = typer.Typer(rich_markup_mode=None), list[UpSettings]()
    one.command(cls=HelpCommand)(command_of(UpSettings, "Try.", seen.append, parts=PARTS))
    words = ["--engine", "simulated", "--dtype", "bfloat16", "--slots", "3", "--cors-origins", "http://a,http://b"]
    assert CliRunner().invoke(one, [*words, "--keep-alive", "2.5", "--trust-remote-code"]).exit_code == 0
    worker, gateway = read(WorkerSettings, {}), read(GatewaySettings, {})
    assert (seen[0].engine, worker.dtype, worker.slots, worker.trust_remote_code) == ("simulated", "bfloat16", 3, True)
    assert (gateway.cors_origins, gateway.keep_alive) == (["http://a", "http://b"], 2.5)
    refused = CliRunner().invoke(one, ["--dtype", "float7"])
    assert refused.exit_code == 2 and "MILLSTREAM_DTYPE" in refused.output
    shown = CliRunner().invoke(one, ["--help"], env={"COLUMNS": "80"}).output
    assert shown.index("\nOptions:") < shown.index("\nThe workers:") < shown.index("\nThe gateway:")


@pytest.mark.parametrize("flag", FASTCHAT)
def test_flags_of_fastchat_say_what_to_use(flag: str) -> None:
    """The flags that the hints name are flags of the worker or the chat."""
    told = CliRunner().invoke(app, ["worker", f"{flag}=1"])
    assert told.exit_code == 2 and f"{flag} is a flag of FastChat. Here" in " ".join(told.output.split())
    for named in re.findall(r"--[a-z-]+", FASTCHAT[flag]):
        assert any(named in map(flag_of, settings.model_fields) for settings in (WorkerSettings, ChatSettings)), named
