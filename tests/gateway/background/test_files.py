"""The Files API, through the official client and by hand: whole or not at all, and only its tenant's."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import httpx
import openai
import pytest
import pytest_asyncio
from fsspec.implementations.memory import MemoryFileSystem

from millstream.gateway.errors.table import StorageFailed
from millstream.gateway.records.files.catalogue import blob_name, has_expired
from millstream.gateway.records.files.storage import Storage
from tests.gateway.background.cluster import gateway
from tests.harness.support import wait_until

LINES = b'{"a": 1}\n' * 50_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest_asyncio.fixture
async def url(redis_url: str, folder: Path) -> AsyncIterator[str]:
    async with gateway(redis_url, folder, max_file_bytes=1 << 20) as address:
        yield address


def stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_file_through_the_sdk(client: openai.AsyncOpenAI, folder: Path) -> None:
    made = await client.files.create(file=("ä lines.jsonl", BytesIO(LINES)), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.object) == (len(LINES), "ä lines.jsonl", "batch", "file")
    assert made.expires_at == made.created_at + 30 * 86400
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.content(made.id)).content == LINES
    assert [file.id async for file in client.files.list()] == [made.id]
    assert len(stored(folder)) == 1
    deleted = await client.files.delete(made.id)
    assert deleted.deleted and stored(folder) == []
    for gone in (client.files.retrieve(made.id), client.files.content(made.id), client.files.delete(made.id)):
        with pytest.raises(openai.NotFoundError, match=made.id):
            await gone


async def test_lists_are_paged_and_filtered(client: openai.AsyncOpenAI) -> None:
    made = [
        await client.files.create(file=(f"{n}.jsonl", b"x"), purpose="batch" if n % 2 else "user_data")
        for n in range(5)
    ]
    ids = sorted(file.id for file in made)
    assert sorted([file.id async for file in client.files.list(limit=2)]) == ids
    asc = [file.id async for file in client.files.list(order="asc", limit=2)]
    assert asc == [file.id async for file in client.files.list(order="desc", limit=2)][::-1]
    odd = {file.id for file in made if file.purpose == "batch"}
    assert {file.id async for file in client.files.list(purpose="batch", limit=1)} == odd
    with pytest.raises(openai.BadRequestError, match="after"):
        await client.files.list(after="file-none")


async def test_expires_after(client: openai.AsyncOpenAI) -> None:
    after: Any = {"anchor": "created_at", "seconds": 3600}
    made = await client.files.create(file=b"x", purpose="batch", expires_after=after)
    assert made.expires_at == made.created_at + 3600
    for wrong in (
        {"anchor": "now", "seconds": 3600},
        {"anchor": "created_at", "seconds": 10},
        {"anchor": "created_at", "seconds": "²"},
        {"anchor": "created_at", "seconds": "9" * 5000},
        {"anchor": "created_at"},
    ):
        bad: Any = wrong
        with pytest.raises(openai.BadRequestError, match="expires_after"):
            await client.files.create(file=b"x", purpose="batch", expires_after=bad)


async def test_expires_after_as_json(http: httpx.AsyncClient) -> None:
    async def upload(after: str) -> httpx.Response:
        return await http.post(
            "/v1/files", files={"file": ("a", b"x")}, data={"purpose": "batch", "expires_after": after}
        )

    made = (await upload('{"anchor": "created_at", "seconds": 3600}')).json()
    assert made["expires_at"] == made["created_at"] + 3600
    for wrong in ("3600", "{}", "[]", '{"anchor": "created_at", "seconds": 3600.5}'):
        assert (await upload(wrong)).status_code == 400, wrong


async def test_what_is_wrong_is_named(http: httpx.AsyncClient, folder: Path) -> None:
    good = {"file": ("a", b"x")}
    cases: list[tuple[dict[str, Any], int, str | None]] = [
        ({"json": {}}, 400, "file"),
        ({"files": good}, 400, "purpose"),
        ({"files": good, "data": {"purpose": "fun"}}, 400, "purpose"),
        ({"files": {"other": ("a", b"x")}, "data": {"purpose": "batch"}}, 400, "file"),
        ({"files": {"file": ("a", b"")}, "data": {"purpose": "batch"}}, 400, "file"),
        ({"files": {"file": ("a", b"x" * ((1 << 20) + 1))}, "data": {"purpose": "batch"}}, 413, "file"),
        ({"files": {"file": ("a", b"x" * (2 << 20))}, "data": {"purpose": "batch"}}, 413, None),
    ]
    for request, status, param in cases:
        response = await http.post("/v1/files", **request)
        assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text
    assert stored(folder) == []
    form = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = form % (b"purpose", b"batch") + form % (b'file"; filename="a', b"x") + b"--b--\r\n"
    assert (
        await http.post("/v1/files", content=body, headers={"content-type": "Multipart/Form-Data; boundary=b"})
    ).is_success


async def test_an_upload_cut_in_the_middle_leaves_nothing(url: str, http: httpx.AsyncClient, folder: Path) -> None:
    host, port = url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 900000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + b"x" * 300_000)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    gone = 'millstream_gateway_requests_total{route="/v1/files",status="499"} 1.0'
    await wait_until(lambda: _counted(http, gone), what="the upload has ended")
    assert stored(folder) == [] and (await http.get("/v1/files")).json()["data"] == []


async def _counted(http: httpx.AsyncClient, line: str) -> bool:
    return line in (await http.get("/metrics")).text


async def test_a_full_disk_is_told_and_leaves_nothing(redis_url: str, folder: Path) -> None:
    """/dev/full is a disk without room: the draft of every file is a link to it."""
    name = blob_name("default", "file-1", 2_000_000_000)
    draft = folder / f"{name}.part"
    draft.parent.mkdir(parents=True)
    draft.symlink_to("/dev/full")
    storage = Storage(str(folder))
    with pytest.raises(Exception, match="no space left"):
        async with storage.writing(name) as writing:
            await writing.write(b"x" * (1 << 20))
    assert stored(folder) == [] and not os.path.lexists(draft)


async def test_a_file_is_its_tenants(redis_url: str, folder: Path) -> None:
    keys = ["a:sk-aaaaaaaaaaaaaaaa", "../b:sk-bbbbbbbbbbbbbbbb"]
    async with gateway(redis_url, folder, api_keys=keys) as url:
        mine, other = (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key.split(":")[1], max_retries=0) for key in keys
        )
        async with mine, other:
            made = await mine.files.create(file=b"x", purpose="batch")
            await other.files.create(file=b"y", purpose="batch")
            with pytest.raises(openai.NotFoundError):
                await other.files.content(made.id)
            with pytest.raises(openai.NotFoundError):
                await other.files.delete(made.id)
            assert [file.id async for file in mine.files.list()] == [made.id]
    assert all(folder in path.resolve().parents for path in stored(folder)) and len(stored(folder)) == 2


def test_what_upkeep_may_remove() -> None:
    now = time.time()
    assert has_expired(blob_name("a", "file-1", int(now) - 1), 0, now)
    assert not has_expired(blob_name("a", "file-1", int(now) + 5), 1e6, now)
    assert has_expired(blob_name("a", "file-1", int(now) + 5) + ".part", 1e6, now)
    assert not has_expired(blob_name("a", "file-1", int(now) - 5) + ".part", 10, now)
    assert not has_expired("t-a/notes.txt", 1e9, now)


async def test_any_fsspec_place_will_do() -> None:
    storage = Storage("memory://bucket/folder")
    async with storage.writing("t-a/x") as draft:
        await draft.write(b"0123456789")
    assert [name for name, _ in await storage.names()] == ["t-a/x"]
    assert b"".join([block async for block in storage.read("t-a/x", 4)]) == b"456789"
    await storage.delete("t-a/x")
    await storage.delete("t-a/x")
    assert await storage.names() == []
    with pytest.raises(ValueError, match="cannot be used"):
        Storage("nonsense://x")


class OtherStore(MemoryFileSystem):
    """A store in the manner of S3: it tells times in its own way, and fails with errors of its own."""

    protocol = "other"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    options: dict[str, Any] = {}
    away = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        type(self).options = options

    def open(self, *args: Any, **kwargs: Any) -> Any:
        if self.away:
            raise LookupError("no route to the store")
        return super().open(*args, **kwargs)

    def find(self, *args: Any, **kwargs: Any) -> Any:
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        return {name: info | {"LastModified": hour_ago} for name, info in super().find(*args, **kwargs).items()}


async def test_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("other", OtherStore, clobber=True)
    storage = Storage("other://bucket/folder")
    assert OtherStore.options == {"use_listings_cache": False}  # others write there too
    async with storage.writing("t-a/x") as draft:
        await draft.write(b"0123456789")
    [(name, idle)] = await storage.names()
    assert name == "t-a/x" and idle >= 3600
    monkeypatch.setattr(OtherStore, "away", True)
    with pytest.raises(StorageFailed, match="no route to the store"):
        await anext(storage.read("t-a/x"))
    with pytest.raises(StorageFailed, match="no route to the store"):
        async with storage.writing("t-a/y"):
            pass
