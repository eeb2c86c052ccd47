"""The Dockerfiles: what each installs, who it runs as, and that a copy of their build context has all it needs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from millstream.cli.main import app

ROOT = Path(__file__).parents[2]
IMAGES = {"gateway": "gateway", "worker": "worker", "worker-gpu": "worker", "background": "gateway"}
IMAGES["worker-vllm"] = "vllm"
EXTRAS = {"gateway": "gateway s3 otel", "worker": "worker otel", "vllm": "vllm"}
UNPINNED = {"vllm"}  # vLLM pins what it needs itself
COMMAND = {"gateway": "gateway", "worker": "worker", "worker-gpu": "worker", "background": "background"}
COMMAND["worker-vllm"] = "worker"


def instructions(name: str) -> list[tuple[str, str]]:
    text = (ROOT / "deploy" / f"{name}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def values(name: str, word: str) -> list[str]:
    return [rest for given, rest in instructions(name) if given == word]


@pytest.mark.parametrize("name", IMAGES)
def test_each_installs_only_its_service_with_pinned_versions(name: str) -> None:
    (build, package, *_) = values(name, "RUN")
    extras = re.findall(r"requirements\.py ([a-z0-9 ]+?) >", build)
    assert extras == [EXTRAS[IMAGES[name]]]
    pinned = "" if IMAGES[name] in UNPINNED else "-c constraints.txt "
    assert f"{pinned}-r /tmp/requirements.txt" in build
    assert package.endswith(f"{pinned}--no-deps .")
    if IMAGES[name] == "gateway":
        assert "torch" not in build
        assert "samples" not in build


@pytest.mark.parametrize("name", IMAGES)
def test_a_changed_source_installs_no_dependency_anew(name: str) -> None:
    told = [f"{word} {rest}" for word, rest in instructions(name)]
    sources = told.index("COPY . .")
    assert all("requirements.txt" in line or "pip" not in line for line in told[:sources] if line.startswith("RUN"))
    assert sum("requirements.txt" in line for line in told[:sources]) == 1
    assert not any("requirements.txt" in line for line in told[sources:])


@pytest.mark.parametrize("extras", EXTRAS.values())
def test_the_requirements_are_those_of_the_extras(extras: str) -> None:
    script = ROOT / "deploy" / "requirements.py"
    done = subprocess.run([sys.executable, script, *extras.split()], capture_output=True, text=True, check=True)
    names = {re.split(r"[\[<>=~ ]", line)[0] for line in done.stdout.splitlines()}
    assert {"redis", "pydantic", "structlog"} <= names
    assert ("fastapi" in names, "torch" in names) == ("gateway" in extras, "worker" in extras)


@pytest.mark.parametrize("name", IMAGES)
def test_each_runs_as_an_ordinary_user_and_gets_the_stop_signal(name: str) -> None:
    (user,) = values(name, "USER")
    assert user == "millstream"
    assert values(name, "STOPSIGNAL") == ["SIGTERM"]
    assert values(name, "ENTRYPOINT") == ['["millstream"]']  # exec form: no shell in between
    assert values(name, "CMD") == [f'["{COMMAND[name]}"]']
    words = [word for word, _ in instructions(name)]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "FROM" not in words[words.index("USER") :]


@pytest.mark.parametrize("name", IMAGES)
def test_a_user_of_any_number_in_group_0_can_write_where_its_process_has_to(name: str) -> None:
    image = (ROOT / "deploy" / f"{name}.Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    made = re.findall(r"install -d -o millstream (/home/millstream/\S+)", image)
    assert made == ["/home/millstream/.cache" if name.startswith("worker") else "/home/millstream/files"]
    opened = image.index("chgrp -R 0 /home/millstream && chmod -R g=u /home/millstream")
    assert image.index(made[0]) < opened < image.index("USER millstream")
    assert "ENV HOME=/home/millstream " in image  # a user whom no file of users knows has no other


def test_every_image_is_used_and_every_command_but_the_profiled_one_exists() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    built = {service["build"]["dockerfile"] for service in services.values() if "build" in service}
    assert built == {f"deploy/{name}.Dockerfile" for name in IMAGES}
    commands = {command.name for command in app.registered_commands}
    assert {COMMAND[name] for name in IMAGES if name != "background"} <= commands


def test_the_build_context_has_every_package_and_file_named() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"millstream", "common", "gateway", "worker", "cli"} <= allowed
    runs = [run for name in IMAGES for run in values(name, "RUN")]
    named = {word for run in runs for word in re.findall(r"(?<!/tmp/)\b[\w-]+\.txt", run)}
    assert named <= allowed
    assert {"pyproject.toml", "README.md", "LICENSE"} <= allowed  # the build reads all three
    assert all((ROOT / path).exists() for path in allowed)


def test_every_pinned_version_fits_what_is_installed_here() -> None:
    """The constraints are what the tests run with, not a wish."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    code = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    installed = {name.lower(): version.partition("+")[0] for name, _, version in map(split, done.stdout.split())}
    differing = {
        name: (pin, installed[name.lower()]) for name, pin in pins.items() if installed.get(name.lower(), pin) != pin
    }
    assert not differing


def split(requirement: str) -> tuple[str, str, str]:
    return requirement.partition("==")
