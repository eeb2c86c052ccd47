"""Small functions, small files, few parameters, honest names: no exemptions but a GPU kernel's parameters."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture import lua

ROOT = Path(__file__).parents[2]
ROOMS = ("common", "gateway", "worker", "cli", "bench")
MOST_FUNCTION_LINES = 40
MOST_FILE_LINES = 300
MOST_PARAMETERS = 6  # self and cls do not count
MOST_ENTRIES = 15
FORBIDDEN_FILES = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "base_utils"}
FORBIDDEN_NAMES = ("Manager", "Helper", "Utils")
ENVIRONMENT = {"environ", "getenv", "putenv", "unsetenv", "environb"}
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
SCRIPTS = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.lua"))

PythonFunction = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def functions(tree: ast.Module) -> Iterator[PythonFunction]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines_of(function: PythonFunction) -> int:
    """Returns the number of lines from the first decorator to the last line."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return (function.end_lineno or first) - first + 1


def parameters_of(function: PythonFunction) -> int:
    if any(ast.unparse(decorator) == "triton.jit" for decorator in function.decorator_list):
        return 0  # a kernel can only take its pointers, strides and sizes one by one
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    rest = [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
    return len([a for a in named if a.arg not in ("self", "cls")]) + len(rest)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_functions_and_parameters_are_few_and_small(path: Path) -> None:
    too_much: list[str] = []
    lines = len(path.read_text().splitlines())
    if lines > MOST_FILE_LINES:
        too_much.append(f"{name_of(path)}: {lines} lines")
    for function in functions(tree_of(path)):
        place = f"{name_of(path)}:{function.lineno} {function.name}"
        if lines_of(function) > MOST_FUNCTION_LINES:
            too_much.append(f"{place}: {lines_of(function)} lines")
        if parameters_of(function) > MOST_PARAMETERS:
            too_much.append(f"{place}: {parameters_of(function)} parameters")
    assert not too_much, "\n".join(too_much)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_keep_the_same_sizes(path: Path) -> None:
    source = path.read_text()
    long = [f"{f.name}:{f.line} {f.lines} lines" for f in lua.functions(source) if f.lines > MOST_FUNCTION_LINES]
    lines = len(source.splitlines())
    assert not long
    assert lines <= MOST_FILE_LINES, f"{lines} lines"


def test_no_folder_of_scripts_holds_too_many() -> None:
    folders = {path.parent for path in SCRIPTS}
    counts = {name_of(each): len([entry for entry in each.iterdir() if entry.suffix == ".lua"]) for each in folders}
    assert counts and max(counts.values()) <= MOST_ENTRIES, counts


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_tests_keep_the_same_sizes(path: Path) -> None:
    long = [f"{f.name}: {lines_of(f)} lines" for f in functions(tree_of(path)) if lines_of(f) > MOST_FUNCTION_LINES]
    lines = len(path.read_text().splitlines())
    assert not long
    assert lines <= MOST_FILE_LINES, f"{lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_names_say_what_a_thing_is(path: Path) -> None:
    assert path.stem not in FORBIDDEN_FILES
    classes = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]
    vague = [name for name in classes if name.endswith(FORBIDDEN_NAMES)]
    assert not vague


@pytest.mark.parametrize("path", [p for p in SOURCES if p.stem != "settings"], ids=name_of)
def test_the_environment_is_read_in_settings_only(path: Path) -> None:
    used = [
        f"line {node.lineno}"
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and {a.name for a in node.names} & ENVIRONMENT)
    ]
    assert not used


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_global_is_rebound_and_no_settings_are_read_at_import(path: Path) -> None:
    tree = tree_of(path)
    rebound = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global)]
    at_import = [
        node.lineno
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Settings")
    ]
    assert not rebound, "`global` holds state"
    assert not at_import, "settings are read at the composition root"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_task_has_an_owner(path: Path) -> None:
    """A task whose handle is dropped may be collected while it runs, and its exception is lost."""
    dropped = [
        statement.lineno
        for statement in ast.walk(tree_of(path))
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value.func) in ("asyncio.create_task", "asyncio.ensure_future", "loop.create_task")
    ]
    assert not dropped


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(tree_of(path))


def test_the_budget_check_itself_counts_right() -> None:
    tree = ast.parse("@a\n@b\ndef f(self, a, /, b, *c, d, **e):\n    x = 1\n    return x\n")
    (function,) = functions(tree)
    assert (lines_of(function), parameters_of(function)) == (5, 5)
    script = "local function f(a)\n  if a then return function() end end\nend\nfor i = 1, 2 do f(i) end\n"
    assert [(each.name, each.lines) for each in lua.functions(script)] == [("(no name)", 1), ("f", 3)]
