"""No cancellation is forgotten: what redis-py does is done inside of `redis_errors`, who catches a cancellation raises
it again, and nobody uses what forgets one: asyncio's own TaskGroup, and its wait_for before Python 3.12."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("common", "gateway", "worker", "cli", "bench")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
THE_DOOR = ROOT / "common" / "broker" / "connection"  # is what `redis_errors` is put around
FORGETFUL = {"asyncio.TaskGroup", "asyncio.wait_for"}
CANCELLATIONS = {"CancelledError", "BaseException"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def above(node: ast.AST, parent: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """Yields the nodes that this one lies in, up to its function."""
    while (node := parent.get(node, node)) in parent and not isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
        yield node


def speaks_to_redis(node: ast.AST) -> bool:
    """Tells whether a client or a pipeline of redis-py is called or read in it."""
    attributes = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    named = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return "redis" in attributes or bool({"redis", "pipe"} & named)


def guarded(node: ast.AST, parent: dict[ast.AST, ast.AST]) -> bool:
    blocks = [each for each in above(node, parent) if isinstance(each, ast.AsyncWith)]
    return any("redis_errors" in ast.unparse(item) for block in blocks for item in block.items)


def unguarded(source: str) -> list[str]:
    tree = ast.parse(source)
    parent = parents(tree)
    waits = [node for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFor)]
    asked = [(node, node.iter if isinstance(node, ast.AsyncFor) else node.value) for node in waits]
    return [
        f"line {node.lineno}: {ast.unparse(call)}"
        for node, call in asked
        if speaks_to_redis(call) and not ast.unparse(call).endswith("aclose()") and not guarded(node, parent)
    ]


def swallowed(source: str) -> list[str]:
    """Handlers of a cancellation that raise nothing."""
    handlers = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler)]
    return [
        f"line {each.lineno}"
        for each in handlers
        if (each.type is None or CANCELLATIONS & names_in(each.type))
        and not any(isinstance(node, ast.Raise) for node in ast.walk(each))
    ]


def names_in(node: ast.AST) -> set[str]:
    named = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return named | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


MEASURING = tuple(ROOT / "bench" / name for name in ("harness", "lab", "quick"))  # of a server that nobody kills
BROKER = [path for path in FILES if "redis" in path.read_text() and not {THE_DOOR, *MEASURING} & set(path.parents)]


@pytest.mark.parametrize("path", BROKER, ids=name_of)
def test_redis_is_asked_inside_of_the_door_that_keeps_cancellations(path: Path) -> None:
    assert unguarded(path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_who_catches_a_cancellation_raises_it_again(path: Path) -> None:
    assert swallowed(path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nobody_uses_what_forgets_a_cancellation(path: Path) -> None:
    """TaskGroup: `common.process.tasks` has one that does not. wait_for: `asyncio.timeout` does the same."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    used = {ast.unparse(node) for node in nodes} & FORGETFUL
    assert not used or path == ROOT / "common" / "process" / "tasks.py"


def test_the_rules_find_what_they_are_for() -> None:
    assert unguarded("async def f(broker):\n    return await broker.redis.get('x')")
    assert not unguarded(
        "async def f(broker):\n    async with redis_errors():\n        return await broker.redis.get('x')"
    )
    assert swallowed("async def f():\n    try:\n        await g()\n    except asyncio.CancelledError:\n        pass")
    assert swallowed("async def f():\n    try:\n        await g()\n    except:\n        pass")
    assert not swallowed("async def f():\n    try:\n        await g()\n    except BaseException:\n        raise")
