"""Remembers what was made of guides: the newest used, so many and so large at most. Safe to use from several
threads."""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from millstream.common.job import Guide

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """`most` guides whose texts together have at most `characters`; the newest one stays, however long it is."""

    def __init__(self, most: int, characters: int) -> None:
        self._most = most
        self._characters = characters
        self._values: OrderedDict[Guide, Value] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, guide: Guide) -> Value | None:
        with self._lock:
            if (found := self._values.get(guide)) is not None:
                self._values.move_to_end(guide)
            return found

    def put(self, guide: Guide, value: Value) -> None:
        with self._lock:
            if self._values.pop(guide, None) is None:
                self._size += len(guide.value)
            self._values[guide] = value
            while len(self._values) > 1 and (len(self._values) > self._most or self._size > self._characters):
                oldest, _ = self._values.popitem(last=False)
                self._size -= len(oldest.value)
