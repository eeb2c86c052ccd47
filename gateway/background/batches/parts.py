"""A batch's output on its way: answers leave Redis in parts, in the order of the lines, and the parts become files."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from millstream.common.broker.records.batches import Batches, LineResult
from millstream.gateway.background.batches.lease import BatchLease, LeaseLost
from millstream.gateway.records.files.storage import Draft, Storage

FLUSH = 256  # answers in a part


class OutputPart(msgspec.Struct, frozen=True):
    """Lines [first, last) of the input: the names of what went well and what did not, empty where there is nothing."""

    first: int
    last: int
    completed: str
    failed: str


class Parts:
    """The parts of one batch's output."""

    def __init__(self, storage: Storage, batches: Batches, batch: str) -> None:
        self._storage = storage
        self._batches = batches
        self._batch = batch

    @property
    def folder(self) -> str:
        """Returns the folder where the parts lie."""
        return f"parts/{self._batch}"

    async def flush(self, lease: BatchLease, first: int, last: int, offset: int) -> None:
        """Writes the answers of the lines [first, last), all of which are recorded; line `last` begins at `offset` of
        the input. Raises `LeaseLost`, `Unavailable`, `StorageFailed`."""
        found = await self._batches.results(self._batch, first, last - first)
        results = [each for each in found if each is not None]
        if len(results) < last - first:
            raise LeaseLost  # somebody else has flushed them
        # The grant in the name: a process that was frozen meanwhile cannot write over another one's part.
        name = f"{self.folder}/{first:08d}-{lease.grant}"
        part = OutputPart(
            first,
            last,
            await self._write(f"{name}.completed", [each for each in results if each.outcome == "completed"]),
            await self._write(f"{name}.failed", [each for each in results if each.outcome == "failed"]),
        )
        if not await self._batches.flush(self._batch, lease.grant, (first, last), offset, msgspec.json.encode(part)):
            raise LeaseLost

    async def _write(self, name: str, results: Sequence[LineResult]) -> str:
        if not results:
            return ""
        async with self._storage.writing(name) as draft:
            await draft.write(b"".join(each.json + b"\n" for each in results))
        return name

    async def copy(self, outputs: "OutputFiles") -> None:
        """Copies all parts into the output files, block by block."""
        for raw in await self._batches.parts(self._batch):
            part = msgspec.json.decode(raw, type=OutputPart)
            await outputs.completed.take(self._storage, part.completed)
            await outputs.failed.take(self._storage, part.failed)


@dataclass(slots=True)
class OutputFile:
    """A file of answers being written."""

    draft: Draft

    async def take(self, storage: Storage, name: str) -> None:
        """Returns a part, or None if there is none."""
        if name:
            async for block in storage.read(name):
                await self.draft.write(block)

    async def add(self, lines: Sequence[bytes]) -> None:
        """Adds some more answers."""
        if lines:
            await self.draft.write(b"".join(line + b"\n" for line in lines))

    @property
    def size(self) -> int:
        return self.draft.size


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The two output files: the lines that went well, and the lines that did not."""

    completed: OutputFile
    failed: OutputFile


@asynccontextmanager
async def writing_outputs(storage: Storage, completed: str, failed: str) -> AsyncGenerator[OutputFiles]:
    """Opens both files; in the end they are both complete, or not there at all."""
    async with storage.writing(completed) as good, storage.writing(failed) as bad:
        yield OutputFiles(OutputFile(good), OutputFile(bad))
