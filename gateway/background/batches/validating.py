"""The whole input file is checked before its first line runs: every fault with its line number and reason."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from millstream.common.errors import MillstreamError, NotFound
from millstream.gateway.background.batches.endpoints import LineReader
from millstream.gateway.background.batches.lines import LineFault, RawLine, parse_line, raw_lines
from millstream.gateway.errors.table import FieldError

PAGE = 128  # lines checked in one go, in a thread
MOST_FAULTS = 100  # faults told; a file that has so many is hardly read by hand


@dataclass(slots=True)
class Findings:
    """The findings on the file so far. Of each custom_id only its 64-bit hash is kept."""

    lines: int = 0
    model: str = ""
    faults: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seen: set[int] = field(default_factory=set[int])

    def fault(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        """Adds one entry of OpenAI's `errors`."""
        self.faults.append({"code": code, "message": message, "param": param, "line": line})

    @property
    def enough(self) -> bool:
        return len(self.faults) >= MOST_FAULTS


class Validation:
    """The validation of one input file."""

    def __init__(self, reader: LineReader, known: frozenset[str], most_lines: int) -> None:
        self._reader = reader
        self._known = known
        self._most = most_lines
        self._found = Findings()

    async def check(self, blocks: AsyncIterator[bytes]) -> Findings:
        """Raises `StorageFailed`, `Unavailable`."""
        found = self._found
        page: list[RawLine] = []
        try:
            async for raw in raw_lines(blocks, 0, self._reader.settings.max_body_bytes):
                page.append(raw)
                if len(page) == PAGE:
                    await asyncio.to_thread(self._check_page, page)
                    page = []
                if found.enough or found.lines > self._most:
                    break
            await asyncio.to_thread(self._check_page, page)
        except LineFault as error:
            await asyncio.to_thread(self._check_page, page)
            found.lines += 1
            found.fault(error.kind, error.message, error.line)
        except NotFound as error:
            found.fault("invalid_input_file", error.message, param="input_file_id")
        if found.lines > self._most:
            found.fault("too_many_tasks", f"The file has more than {self._most} requests.")
        if not found.lines and not found.faults:
            found.fault("empty_file", "The file has no requests.")
        return found

    def _check_page(self, page: list[RawLine]) -> None:
        for raw in page:
            self._found.lines += 1
            try:
                self._check(raw)
            except LineFault as error:
                self._found.fault(error.kind, error.message, raw.number, error.param)
            except MillstreamError as error:  # a bad body, or a model that this key may not use
                kind = error.wire_code if isinstance(error, FieldError) and error.wire_code else error.code
                self._found.fault(kind, error.message, raw.number, f"body.{error.param}" if error.param else "body")

    def _check(self, raw: RawLine) -> None:
        line = parse_line(raw.text, self._reader.endpoint)
        if hash(line.custom_id) in self._found.seen:
            message = f"The 'custom_id' {line.custom_id!r} occurs more than once."
            raise LineFault("duplicate_custom_id", message, "custom_id")
        self._found.seen.add(hash(line.custom_id))
        order = self._reader.prepare(line.body, []).order
        self._check_model(order.submission.model)

    def _check_model(self, model: str) -> None:
        if model not in self._known:
            there = ", ".join(f"'{name}'" for name in sorted(self._known)) or "none yet"
            raise LineFault("model_not_found", f"The model '{model}' does not exist. Models: {there}.", "body.model")
        self._found.model = self._found.model or model
        if model != self._found.model:
            message = f"The model is '{model}', but the first line's is '{self._found.model}': one model a batch."
            raise LineFault("mismatched_model", message, "body.model")
