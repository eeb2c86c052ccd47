"""The end of a batch: its parts become the output and error files, what never ran is told, the status is final."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from millstream.common.broker.records.batches import Batches
from millstream.common.errors import NotFound
from millstream.gateway.background.batches.answering import line_id
from millstream.gateway.background.batches.lease import BatchLease, LeaseLost
from millstream.gateway.background.batches.lines import parse_line, raw_lines
from millstream.gateway.background.batches.parts import OutputFile, OutputFiles, Parts, writing_outputs
from millstream.gateway.records.batches import Batch
from millstream.gateway.records.files.catalogue import Catalogue, StoredFile, blob_name
from millstream.gateway.records.files.storage import Storage

Ending = Literal["completed", "expired", "cancelled", "failed"]
PAGE = 256  # lines whose answers are looked for in one round trip
UNDONE = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
    "failed": ("batch_failed", "This request was not executed because the batch's input could not be read to its end."),
    "completed": ("batch_line_lost", "This request's answer was lost."),
}


class Finalising:
    """The finalising of one batch. Done again by another process it gives the same files."""

    def __init__(self, batch: Batch, batches: Batches, storage: Storage, catalogue: Catalogue, file_ttl: float) -> None:
        self._batch = batch
        self._batches = batches
        self._storage = storage
        self._catalogue = catalogue
        self._began = batch.number("finalizing_at") or batch.number("cancelling_at")  # whoever does it again
        self._expires = self._began + (batch.number("output_ttl") or int(file_ttl))
        self._parts = Parts(storage, batches, batch.id)

    async def finish(self, lease: BatchLease, ending: Ending) -> None:
        """The parts stay for a while: a Redis that dies now may forget that this was done, and it is done again. Raises
        `LeaseLost`, `Unavailable`, `StorageFailed`."""
        names = [blob_name(self._batch.tenant, self._file_id(kind), self._expires) for kind in ("output", "error")]
        async with writing_outputs(self._storage, names[0], names[1]) as outputs:
            await self._parts.copy(outputs)
            await self._rest(outputs, ending)
        fields: dict[str, str | int] = {
            "output_file_id": await self._record("output", outputs.completed, names[0]),
            "error_file_id": await self._record("error", outputs.failed, names[1]),
        }
        allowed = ("finalizing", "cancelling")
        changed, _ = await self._batches.move(self._batch.id, allowed, ending, fields, lease.grant)
        if not changed:
            raise LeaseLost

    def _file_id(self, kind: str) -> str:
        return f"file-{hashlib.sha256(f'{self._batch.id}:{kind}'.encode()).hexdigest()[:24]}"

    async def _rest(self, outputs: OutputFiles, ending: Ending) -> None:
        """Yields the lines after the last part: a batch that ended early has some."""
        first, page = self._batch.flushed, list[bytes | None]()
        if first >= self._batch.total:
            return
        try:
            file = await self._catalogue.get(self._batch.input_file)
            blocks = self._catalogue.read(file, self._batch.offset)
            async for raw in raw_lines(blocks, self._batch.offset, file.bytes):
                page.append(raw.text)
                if len(page) == PAGE:
                    await self._page(outputs, first, page, ending)
                    first, page = first + PAGE, []
        except NotFound:  # deleted meanwhile: nothing is known of what never ran
            page = [None] * (1 + max(await self._batches.recorded(self._batch.id), default=first - 1) - first)
        await self._page(outputs, first, page, ending)

    async def _page(self, outputs: OutputFiles, first: int, page: Sequence[bytes | None], ending: Ending) -> None:
        found = await self._batches.results(self._batch.id, first, len(page))
        good = [each.json for each in found if each is not None and each.outcome == "completed"]
        bad = [
            each.json if each is not None else self._undone(first + at, text or b"", ending)
            for at, (each, text) in enumerate(zip(found, page, strict=True))
            if (text is not None if each is None else each.outcome == "failed")
        ]
        await outputs.completed.add(good)
        await outputs.failed.add(bad)

    def _undone(self, index: int, text: bytes, ending: Ending) -> bytes:
        code, message = UNDONE[ending]
        line = parse_line(text, self._batch.endpoint)
        error = {"code": code, "message": message}
        told = {"id": line_id(self._batch.id, index), "custom_id": line.custom_id, "response": None, "error": error}
        return msgspec.json.encode(told)

    async def _record(self, kind: str, output: OutputFile, name: str) -> str:
        """Returns the file's id; empty if there is nothing in it."""
        if not output.size:
            await self._storage.delete(name)
            return ""
        identity = self._file_id(kind)
        title = f"{self._batch.id}_{kind}.jsonl"
        file = StoredFile(identity, output.size, self._began, title, "batch_output", self._expires)
        await self._catalogue.record(file, always=True)  # its lines have been computed
        return identity
