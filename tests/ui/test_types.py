"""The page's JavaScript holds to its JSDoc types, where TypeScript is installed (`make ui-types`)."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TSC = ROOT / ".types" / "node_modules" / ".bin" / "tsc"
CONFIG = ROOT / "gateway" / "ui" / "tsconfig.json"

pytestmark = pytest.mark.skipif(not TSC.exists(), reason="TypeScript is not here (`make ui-types` fetches it)")


def check(config: Path) -> str:
    """Returns what the type checker complains about."""
    told = subprocess.run([TSC, "--noEmit", "-p", config], capture_output=True, text=True, check=False)
    return told.stdout + told.stderr


async def test_the_page_has_no_wrong_type() -> None:
    assert check(CONFIG) == ""


async def test_a_wrong_type_is_found(tmp_path: Path) -> None:
    """The check is none that always passes."""
    shutil.copytree(CONFIG.parent / "static", tmp_path / "static")
    shutil.copy(CONFIG, tmp_path)
    with (tmp_path / "static" / "lib" / "words.js").open("a") as words:
        words.write("\nexport const wrong = t('no such words');\n")
    assert "'\"no such words\"' is not assignable" in check(tmp_path / "tsconfig.json")
