"""The append-only file of a Valkey that is down, cut short: what a power failure leaves."""

from pathlib import Path


def cut_tail(directory: Path, most: int) -> int:
    """Takes up to `most` bytes from the end of the newest part of the log in a server's data directory, never its base;
    returns how many were taken. The server then drops what is left of a broken entry (`aof-load-truncated yes`)."""
    parts = sorted((directory / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    if not parts:
        return 0
    size = parts[-1].stat().st_size
    cut = min(most, size)
    with parts[-1].open("r+b") as file:
        file.truncate(size - cut)
    return cut
