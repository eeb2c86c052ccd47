"""The list of packages in CycloneDX's form, and the images' labels: true to what is installed, and to what was told."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ("background", "gateway", "worker", "worker-gpu", "worker-vllm")
STAGE = "FROM python:3.11-slim AS sbom"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The list that `make sbom` wrote, or one of this environment by the generator that `make sbom` installed."""
    if given := os.environ.get("MILLSTREAM_SBOM"):
        return json.loads(Path(given).read_text())
    if not (ROOT / ".sbom" / "venv" / "bin" / "cyclonedx-py").exists():
        pytest.skip("needs CycloneDX's generator: `make sbom` installs it")
    file = tmp_path_factory.mktemp("sbom") / "sbom.json"
    script = ROOT / "deploy" / "release" / "sbom.sh"
    subprocess.run([script, file, sys.executable], env={**os.environ, "PYTHON": sys.executable}, check=True)
    return json.loads(file.read_text())


def test_it_is_cyclonedx_about_this_program(sbom: dict[str, Any]) -> None:
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    about = sbom["metadata"]["component"]
    assert (about["name"], about["version"], about["type"]) == ("millstream", version("millstream"), "application")
    assert json.dumps(about["licenses"]).count("Apache-2.0") == 1


def test_it_has_every_installed_package_in_its_version(sbom: dict[str, Any]) -> None:
    listed = {canonical(each["name"]): each["version"] for each in sbom["components"]}
    installed = {canonical(each.name): each.version for each in distributions()}
    installed.pop("millstream")
    assert installed.items() <= listed.items()
    assert all(each.get("purl", "").startswith("pkg:pypi/") for each in sbom["components"])


def test_it_tells_what_depends_on_what(sbom: dict[str, Any]) -> None:
    root = sbom["metadata"]["component"]["bom-ref"]
    needs = {each["ref"]: each.get("dependsOn", []) for each in sbom["dependencies"]}
    assert any(need.startswith("redis==") for need in needs[root])


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_is_built_with_its_list_and_without_the_generator(name: str) -> None:
    text = (ROOT / "deploy" / f"{name}.Dockerfile").read_text()
    stage, image = text.split(STAGE)[1].split("\nFROM ")
    assert "cyclonedx-py environment" in stage and "/opt/millstream/bin/python" in stage
    assert stage.index("pip install") < stage.index("COPY --from=build")  # the generator's layer is not built anew
    assert "COPY --from=sbom /sbom.json /opt/millstream/sbom.json" in image
    assert "/opt/sbom" not in image
    script = (ROOT / "deploy" / "release" / "sbom.sh").read_text()
    assert re.findall(r"cyclonedx-bom==\S+", stage) == re.findall(r"cyclonedx-bom==\S+", script)


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_says_what_it_was_built_from_and_no_more_than_it_knows(name: str) -> None:
    image = (ROOT / "deploy" / f"{name}.Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', image))
    assert labels["title"] == f"millstream {name}"
    told = {each: labels[each] for each in ("version", "revision", "source")}
    assert told == {"version": "$VERSION", "revision": "$REVISION", "source": "$SOURCE"}
    assert set(re.findall(r"^ARG (\w+)=(\w+)$", image, re.M)) == {
        ("VERSION", "unknown"),
        ("REVISION", "unknown"),
        ("SOURCE", "unknown"),
    }
    project = (ROOT / "pyproject.toml").read_text()
    assert f'license = "{labels["licenses"]}"' in project
    assert image.index("ARG VERSION") > image.index("CMD")  # another revision changes no layer
