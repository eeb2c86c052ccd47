"""docs/decisions: every page in the index, numbered without a hole, in the form all of them have."""

import re
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
DECISIONS = sorted((path for path in FOLDER.rglob("*.md") if path.name != "README.md"), key=lambda path: path.name)
SECTIONS = ["Context", "What was tried", "Figures", "Decision"]
MOST_ENTRIES = 15  # in a folder, as for code
STATUS = re.compile(r"(measured|kept|not kept|kept, then replaced|replaced by \[\d{4}\]\([^)]+\))")


def number(page: Path) -> str:
    return page.name[:4]


def test_the_numbers_have_no_hole_and_no_double() -> None:
    assert [number(page) for page in DECISIONS] == [f"{i:04}" for i in range(1, len(DECISIONS) + 1)]


def test_the_index_lists_every_page_with_its_title_and_status() -> None:
    told = re.findall(r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \| (\w+) \| (.+) \|$", (FOLDER / "README.md").read_text(), re.M)
    pages = [
        (number(page), title(page), page.relative_to(FOLDER).as_posix(), page.parent.name, status(page))
        for page in DECISIONS
    ]
    assert told == pages


def title(page: Path) -> str:
    return page.read_text().splitlines()[0].removeprefix(f"# {number(page)}. ")


def status(page: Path) -> str:
    return page.read_text().splitlines()[2].removeprefix("Status: ").removesuffix(".")


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_page_has_the_four_sections_and_a_status(page: Path) -> None:
    assert re.findall(r"^## (.+)$", page.read_text(), re.M) == SECTIONS
    assert STATUS.fullmatch(status(page)), status(page)


def test_no_folder_is_crowded() -> None:
    crowded = {folder: n for folder, n in Counter(page.parent.name for page in DECISIONS).items() if n > MOST_ENTRIES}
    assert not crowded
