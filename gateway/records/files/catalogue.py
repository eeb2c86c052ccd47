"""A tenant's files: what they are (records in Redis) and what is in them (bytes in the storage).

A file's bytes lie under `<tenant>/<expires>-<id>`, so that what has expired can be removed by its name alone.
"""

import secrets
import time
from collections.abc import AsyncIterator
from typing import IO
from urllib.parse import quote

import msgspec

from millstream.common.errors import BadRequest
from millstream.common.process.cancellation import cancellation_wins
from millstream.gateway.records.files.storage import Storage
from millstream.gateway.records.lost import missing
from millstream.gateway.records.store import Record, RecordStore

PAGE = 100  # records looked at while a list of one purpose is gathered


class StoredFile(msgspec.Struct, frozen=True):
    """OpenAI's file object. Times in seconds since the epoch."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int
    object: str = "file"
    status: str = "processed"


def new_file_id() -> str:
    """Returns a fresh id."""
    return f"file-{secrets.token_hex(12)}"


def blob_name(tenant: str, file_id: str, expires_at: int) -> str:
    """Returns the name under which the file's bytes lie."""
    return f"t-{quote(tenant, safe='')}/{expires_at:012d}-{file_id}"


def has_expired(name: str, idle: float, now: float) -> bool:
    """Tells whether upkeep may remove this name: its file's time is over, or it is a draft nobody has written to for a
    day (its writer was killed)."""
    if name.endswith(".part"):
        return idle > 86400
    expires, dash, _ = name.rpartition("/")[2].partition("-")
    return bool(dash) and len(expires) == 12 and expires.isdigit() and int(expires) < now


class Catalogue:
    """One tenant's files."""

    def __init__(self, storage: Storage, store: RecordStore, tenant: str) -> None:
        self._storage = storage
        self._store = store
        self._tenant = tenant

    async def add(self, content: IO[bytes], filename: str, purpose: str, ttl: float) -> StoredFile:
        """Keeps the content for `ttl` seconds. All of it or nothing. Raises `QuotaExceeded`, `StorageFailed`,
        `Unavailable`."""
        await self._store.check_room(self._tenant, "file")
        now = int(time.time())
        identity, expires = new_file_id(), now + int(ttl)
        name = blob_name(self._tenant, identity, expires)
        async with self._storage.writing(name) as draft:
            await draft.copy(content)
        file = StoredFile(identity, draft.size, now, filename, purpose, expires)
        with cancellation_wins():
            try:
                await self.record(file)
            except BaseException:
                await self._storage.delete(name)
                raise
        return file

    async def record(self, file: StoredFile, *, always: bool = False) -> None:
        """Writes down what is known of a file whose bytes are there; `always`: even if the tenant has no room for it.
        Raises `QuotaExceeded`."""
        record = Record(file.id, file.created_at, msgspec.json.encode(file), size=file.bytes)
        await self._store.put(self._tenant, "file", record, file.expires_at - time.time(), always=always)

    async def get(self, identity: str) -> StoredFile:
        """Raises `NotFound`."""
        record = await self._store.get(self._tenant, "file", identity)
        if record is None:
            uptime = await self._store.uptime(self._tenant)
            raise missing(f"No such File object: {identity[:80]}", "id", identity, uptime)
        return msgspec.json.decode(record.body, type=StoredFile)

    async def content(self, identity: str) -> AsyncIterator[bytes]:
        """Yields the file's bytes, in blocks. Raises `NotFound` before the first."""
        file = await self.get(identity)
        return self.read(file)

    def read(self, file: StoredFile, start: int = 0) -> AsyncIterator[bytes]:
        """Yields the file's bytes from `start` on."""
        return self._storage.read(blob_name(self._tenant, file.id, file.expires_at), start)

    async def delete(self, identity: str) -> None:
        """Raises `NotFound`."""
        file = await self.get(identity)
        await self._store.delete(self._tenant, "file", identity)
        await self._storage.delete(blob_name(self._tenant, file.id, file.expires_at))

    async def list(
        self, purpose: str | None, *, after: str | None, limit: int, descending: bool
    ) -> tuple[list[StoredFile], bool]:
        """Returns up to `limit` files, and whether there are more. Raises `BadRequest` for an unknown `after`."""
        if after is not None and await self._store.get(self._tenant, "file", after) is None:
            raise BadRequest(f"Invalid 'after': there is no file '{after[:80]}'.", param="after")
        found: list[StoredFile] = []
        while len(found) <= limit:
            page = await self._store.list(self._tenant, "file", after=after, limit=PAGE, descending=descending)
            files = [msgspec.json.decode(record.body, type=StoredFile) for record in page]
            found += [file for file in files if purpose in (None, file.purpose)]
            if len(page) < PAGE:
                break
            after = page[-1].id
        return found[:limit], len(found) > limit
