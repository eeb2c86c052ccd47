"""The code speaks the field's language, in full sentences: folders, names, docstrings, comments and log events."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("common", "gateway", "worker", "cli", "bench")
MOST_ENTRIES = 15
SOURCES = sorted(path for part in PRODUCT for path in (ROOT / part).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROGRAMS = ROOT / "tests/clients/programs"  # each stands for a user's own program
PACKAGES = [path for path in SOURCES if path.name == "__init__.py"]
FOLDERS = sorted(
    folder
    for part in (*PRODUCT, "docs", "tests")
    for folder in [ROOT / part, *(ROOT / part).rglob("*")]
    if folder.is_dir() and folder.name != "__pycache__"
)
TEXTS = sorted([*SOURCES, *TESTS, *(path for part in PRODUCT for path in (ROOT / part).rglob("*.lua"))])

# A docstring that begins so goes on from the name above it, and cannot be understood without it.
FRAGMENT = re.compile(
    r"(?:As|By|From|How|Its|Of|Those|Until|What|Where|Whether|Which|Who|Whom|Whose|Why)\b"
    r"|The same(?: for\b|[.,:])|\S+ \S+'s\."
)
# The word says that something lags. Of time and order it is "after"; only what a proxy hides may be said to be there.
BEHIND = re.compile(r'(?<![`"\'])\b[Bb]ehind\b(?! (?:nginx|a proxy|any load balancer))')
# Roles in a story. The glossary has the field's words for them.
METAPHORS = re.compile(r"\b(?:afterwork|farewells?|gatekeeper|manners|switchboard)\b", re.IGNORECASE)
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z]+(?:_[a-z]+)*")
CAMEL_CASE = re.compile(r"[A-Z]\w*[a-z]\w*")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of every docstring, its white space as single blanks."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, " ".join(text.split())


def fragments(tree: ast.Module) -> list[str]:
    return [f"line {line}: {text[:60]}" for line, text in docstrings(tree) if FRAGMENT.match(text)]


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of every docstring and comment."""
    yield from docstrings(ast.parse(source))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def public_types(tree: ast.Module) -> Iterator[str]:
    """Yields the classes and the type aliases of a module that others may import."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                pass
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ):
                if isinstance(value, ast.Call) and ast.unparse(value.func) == "TypeVar":
                    continue
            case _:
                continue
        if CAMEL_CASE.fullmatch(name):
            yield name


def log_events(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line and the event of every call of a logger; a dynamic one as its source."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=method), args=[event, *_]):
                choices = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
                for each in choices if method in LOG_METHODS else ():
                    literal = isinstance(each, ast.Constant) and isinstance(each.value, str)
                    yield node.lineno, str(each.value) if literal else ast.unparse(each)
            case _:
                pass


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_no_folder_holds_too_many_entries(folder: Path) -> None:
    entries = [entry.name for entry in folder.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_every_package_says_in_one_sentence_what_it_is() -> None:
    texts = {name_of(path): " ".join((ast.get_docstring(tree_of(path)) or "").split()) for path in PACKAGES}
    assert not {name: text for name, text in texts.items() if not text.endswith(".") or ". " in text}
    folders = {path.parent for path in SOURCES}
    assert not sorted(name_of(folder) for folder in folders if not (folder / "__init__.py").exists())


def test_a_public_class_name_means_one_thing_in_the_whole_repository() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in [*SOURCES, *(path for path in TESTS if not path.is_relative_to(PROGRAMS))]:
        for name in public_types(tree_of(path)):
            places[name].append(name_of(path))
    assert len(places) > 100
    assert not {name: found for name, found in places.items() if len(found) > 1}


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_docstrings_can_be_read_without_the_name_above_them(path: Path) -> None:
    assert not fragments(tree_of(path))


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_after_is_not_called_behind(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert not [f"line {number}: {line.strip()}" for number, line in enumerate(lines, 1) if BEHIND.search(line)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_prose_has_no_roles_in_a_story(path: Path) -> None:
    assert not [f"line {line}: {text[:60]}" for line, text in prose(path.read_text()) if METAPHORS.search(text)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_log_events_have_one_form(path: Path) -> None:
    assert not [found for found in log_events(tree_of(path)) if not EVENT.fullmatch(found[1])]


def test_the_checks_of_words_themselves_find_what_is_wrong() -> None:
    wrong = ["Of one file.", "What comes.", "One response's. It stays.", "The same for a list.", "Whether it is there."]
    right = ["Tells whether it is there.", "OpenAI's Batch API.", "The same digest on every worker.", "Often."]
    tree = ast.parse("".join(f'def f():\n    """{text}"""\n' for text in wrong + right))
    assert len(fragments(tree)) == len(wrong)
    word = "behind"
    assert BEHIND.search(f"the chunks {word} it") and not BEHIND.search(f"it runs {word} a proxy")
    source = (
        "log.info('job_ended', x=1)\nlog.error('request failed')\nlog.info('a_b' if x else 'C')\nlog.debug(f'{x}')\n"
    )
    found = [event for _, event in log_events(ast.parse(source)) if not EVENT.fullmatch(event)]
    assert found == ["request failed", "C", "f'{x}'"]
    source = "class A1b: ...\nclass _C: ...\nPart = list[int]\nT = TypeVar('T')\nTea = TypeVar('Tea')\nLIMIT = 3\n"
    assert list(public_types(ast.parse(source))) == ["A1b", "Part"]
