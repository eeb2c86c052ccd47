"""Other users of the machine read nothing of what was uploaded or answered."""

import stat
from pathlib import Path

from millstream.gateway.records.files.storage import Storage


async def test_files_and_folders_are_their_owners(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "state" / "files"))
    async with storage.writing("t-acme/000001-file-1") as draft:
        await draft.write(b"secret")
        [part] = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert stat.S_IMODE(part.stat().st_mode) == 0o600  # from its first byte on
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


async def test_a_folder_the_operator_made_stays_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "files"
    shared.mkdir()
    shared.chmod(0o770)
    async with Storage(str(shared)).writing("t-acme/000001-file-1") as draft:
        await draft.write(b"secret")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o770
