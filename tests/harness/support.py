"""Functions with which tests wait and look."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")


async def wait_until(
    condition: Callable[[], T | Awaitable[T]], *, within: float = 20.0, every: float = 0.01, what: str = ""
) -> T:
    """The condition's first true value. `condition` may be sync or async; `within` (seconds) is only a safety net."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        value = condition()
        value = cast(T, await value if inspect.isawaitable(value) else value)
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(every)
