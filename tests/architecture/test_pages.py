"""The README and the docs keep their word: all that they say can be done, can be done."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millstream.cli.main import app
from millstream.cli.settings import UpSettings
from millstream.common.settings import ClusterSettings
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.settings import GatewaySettings
from millstream.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
ROOT_PAGES = ("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = sorted(
    [*(ROOT / name for name in ROOT_PAGES), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
)
ROOMS = "common|gateway|worker|cli|bench|tests|examples|docs|deploy"
LONGEST_LINE = 140  # characters: fits beside a terminal, and a difference shows the sentence that changed
README = (ROOT / "README.md").read_text()


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


GROUPS = ("keys", "models")  # commands with commands of their own


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_line_is_too_long(page: Path) -> None:
    long = {n: len(line) for n, line in enumerate(page.read_text().splitlines(), 1) if len(line) > LONGEST_LINE}
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_behind_is_said_of_proxies_only(page: Path) -> None:
    """Elsewhere it may mean "lagging" or "after". In quotes or in a table the word itself is meant."""
    text = " ".join(page.read_text().split())
    assert not re.findall(r'.{20}(?<![`"])\b[Bb]ehind\b(?! (?:nginx|a proxy|any load balancer|\|)).{20}', text)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_path_named_exists(page: Path) -> None:
    named = re.findall(rf"`((?:{ROOMS})/[\w./*-]*(?:/|\.\w+))`", page.read_text())
    assert not [path for path in named if not list(ROOT.glob(path.rstrip("/")))]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_variable_named_is_a_setting(page: Path) -> None:
    classes = (ClusterSettings, GatewaySettings, WorkerSettings, BackgroundSettings, UpSettings)
    known = {f"MILLSTREAM_{name.upper()}" for settings in classes for name in settings.model_fields}
    outside = {
        "MILLSTREAM_API_KEY",
        "MILLSTREAM_GATEWAY_URL",
        "MILLSTREAM_GPU_MODEL",
        "MILLSTREAM_REDIS_IMAGE",
        "MILLSTREAM_TEST_SERVER",
    }
    assert set(re.findall(r"MILLSTREAM_\w+", page.read_text())) <= known | outside


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_shown_exists_with_its_flags(page: Path) -> None:
    for line in re.findall(r"(?:^|`|&& )millstream ([^`#\n]*)", page.read_text(), flags=re.MULTILINE):
        words = shlex.split(line)
        command, arguments = words[:1], words[1:]
        if command[0] in GROUPS:
            command, arguments = words[:2], words[2:]
        shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
        assert shown.exit_code == 0, line
        flags = [argument for argument in arguments if argument.startswith("--")]
        assert not [flag for flag in flags if flag not in shown.output], line


def test_the_readme_asks_with_a_body_that_is_json() -> None:
    (curl,) = [block for block in blocks(README, "sh") if block.startswith("curl")]
    words = shlex.split(curl)
    body = json.loads(words[words.index("-d") + 1])
    assert body["stream"] is True
    assert words[words.index("-sSN") + 1] == "http://127.0.0.1:8000/v1/chat/completions"


def test_the_readmes_python_is_python() -> None:
    for block in blocks(README, "python"):
        compile(block, "README.md", "exec")


def test_the_files_the_first_screen_names_exist() -> None:
    for name in ("constraints.txt", "samples.txt", ".ci/run", ".env.example", "docker-compose.yml"):
        assert (ROOT / name).exists()
        assert name in README or name == "docker-compose.yml"


def test_the_chinese_readme_says_the_same_commands() -> None:
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    code = re.compile(r"```.*?```", re.DOTALL)
    assert code.findall(chinese) == code.findall(README)
    commands = re.compile(r"`(?:millstream|docker compose) [^`]+`")
    assert set(commands.findall(README)) <= set(commands.findall(chinese))
    assert "(README.zh-CN.md)" in README
