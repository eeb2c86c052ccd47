"""The wheel holds one package, and lives beside packages that own the names of our source folders."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = ("millstream", "common", "gateway", "worker", "cli", "bench", "pyproject.toml", "README.md", "LICENSE")
FOREIGN = ("common", "gateway", "worker", "cli", "bench")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel from a copy, because a build leaves folders."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_one_package_with_its_scripts_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"millstream"}
    assert "millstream/py.typed" in names
    scripts = {path.relative_to(ROOT) for path in (ROOT / "common" / "broker" / "scripts").rglob("*.lua")}
    assert {f"millstream/{script}" for script in scripts} <= set(names)
    files = (ROOT / "gateway/ui/static").rglob("*.*")
    page = {path.relative_to(ROOT) for path in files if not path.name.endswith(".d.ts")}  # those are for developers
    assert len(page) > 20 and {f"millstream/{file}" for file in page} <= set(names)
    assert not [name for name in names if name.startswith(("millstream/bench/lab", "millstream/bench/harness"))]


def test_it_works_beside_packages_of_other_people_with_our_folders_names(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    for name in FOREIGN:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("OWNER = 'somebody else'\n")
    # The dependencies are those of the tests. A path named here is not searched for `.pth` files, so the editable
    # installation of this checkout stays out.
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join([*dependencies, sysconfig.get_path("purelib")]) + "\n")
    code = "import common, gateway, worker, cli, bench, millstream.gateway.app, millstream.cli.main as m; "
    code += "from millstream.common.broker.scripts.source import script_text; script_text('job/submit'); "
    code += "assert {x.OWNER for x in (common, gateway, worker, cli, bench)} == {'somebody else'}; print(m.__file__)"
    assert run(python, "-c", code, cwd=tmp_path).startswith(str(site))
    assert "Usage" in run(tmp_path / "env" / "bin" / "millstream", "--help", cwd=tmp_path)


def test_there_is_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "millstream" / "Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {version}
    assert version in (ROOT / "CHANGELOG.md").read_text()
