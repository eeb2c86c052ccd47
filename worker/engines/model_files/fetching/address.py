"""One GGUF file at an address of its own, of which only the server's headers tell something."""

import httpx

from millstream.worker.engines.model_files.fetching.listing import Listing, SourceFile
from millstream.worker.engines.model_files.fetching.wanted import Wanted


def list_address(wanted: Wanted) -> Listing:
    """Returns the one file, with the size that its server tells. Its revision is the server's mark of the content, or
    the time of its last change. Raises httpx's errors."""
    url = wanted.name
    headers = {"Accept-Encoding": "identity"}
    with httpx.stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=httpx.Timeout(30, connect=10)
    ) as told:
        told.raise_for_status()
        length, marks = told.headers.get("Content-Length", ""), told.headers
        revision = (marks.get("ETag") or marks.get("Last-Modified") or "unknown").removeprefix("W/").strip('"')
    size = int(length) if length.isdigit() else None
    return Listing("url", url, revision, (SourceFile(wanted.gguf or url, size, url=url),))
