"""Write a source distribution anew so that the same sources are the same bytes: `settle.py FILE.tar.gz`.

The build writes who built it and when into the archive. Here every entry gets the moment SOURCE_DATE_EPOCH (seconds),
no owner, and its place by name.
"""

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path


def settle(path: Path, moment: int) -> None:
    """Rewrites the archive in place."""
    with tarfile.open(path) as archive:
        entries = sorted(archive.getmembers(), key=lambda entry: entry.name)
        files = [(entry, archive.extractfile(entry)) for entry in entries]
        contents = [(entry, b"" if file is None else file.read()) for entry, file in files]
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=moment) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry, content in contents:
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = moment, 0, 0, "", ""
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            entry.pax_headers = {}
            archive.addfile(entry, io.BytesIO(content) if entry.isfile() else None)
    path.write_bytes(packed.getvalue())


if __name__ == "__main__":
    settle(Path(sys.argv[1]), int(os.environ["SOURCE_DATE_EPOCH"]))
