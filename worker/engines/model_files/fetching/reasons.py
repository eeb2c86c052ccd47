"""The reasons why a model's files cannot be had, each in one sentence with its remedy."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (huggingface_hub publishes partly unknown types)

import errno
import shutil
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from millstream.common.errors import MillstreamError
from millstream.worker.engines.base import LoadFailed

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def sourced(model: str, variable: str, folder: Path) -> Generator[None]:
    """Turns what libraries, network and disk say into one `LoadFailed`. `variable`: the environment variable that
    chooses another folder than `folder`."""
    try:
        yield
    except MillstreamError:
        raise
    except Exception as error:  # each library has its own kinds
        told = of_the_disk(error, folder, variable) or of_the_source(error, model)
        raise LoadFailed(told or f"Cannot fetch {model!r}: {error}", param="model") from error


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Returns the error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_network(error: BaseException) -> bool:
    """Tells whether the source could not be reached or could not answer, so that another time it may."""
    for cause in chain(error):
        if any(kind.__name__ == "TransportError" for kind in type(cause).__mro__) or "offline mode" in str(cause):
            return True
        if isinstance(cause, ConnectionError | LocalEntryNotFoundError):
            return True
        if (status := _status(cause)) is not None and status in (408, 429, 500, 502, 503, 504):
            return True
    return False


def of_the_source(error: BaseException, model: str) -> str | None:
    """Returns what a source's refusal means; None for an error of another kind."""
    for cause in chain(error):
        if told := _refusal(cause, model):
            return told
    if is_network(error):
        return (
            f"The hub cannot be reached and {model!r} is not in the local cache: check the network (HF_HUB_OFFLINE "
            "must not be set), or give a local folder, or use the bundled sample model `smollm2`."
        )
    if any(isinstance(cause, HfHubHTTPError | httpx.HTTPError) for cause in chain(error)):
        return f"The source of {model!r} refuses it: {' '.join(str(error).split())[:300]}"
    return None


def _refusal(error: BaseException, model: str) -> str | None:
    if isinstance(error, GatedRepoError):
        return gated(model)
    if isinstance(error, RevisionNotFoundError):
        return f"{model!r} has no such revision: check --revision (a branch, a tag or a commit)."
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no model {model!r} on the hub, or it is private: check the id, or set HF_TOKEN."
    if isinstance(error, HFValidationError):
        return f"{model!r} is no hub id (OWNER/NAME), and there is no folder or file of that name: check the name."
    match _status(error):
        case 401 | 403:
            return gated(model)
        case 429:
            return (
                f"The source of {model!r} takes no more requests from here for now: try again in a few minutes, or set "
                "HF_TOKEN (of ModelScope MODELSCOPE_API_TOKEN), which allows more. What was fetched is kept."
            )
        case 404:
            return f"There is nothing at the place of {model!r}: check the name and the revision."
        case _:
            return None


def gated(model: str) -> str:
    """Returns what to do about a model that asks for consent first."""
    return (
        f"{model!r} is gated: accept its licence on its page, then log in with `hf auth login` "
        "or set HF_TOKEN (of ModelScope MODELSCOPE_API_TOKEN) where the worker runs."
    )


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def of_the_file(error: BaseException, model: str) -> str | None:
    """Returns what a file that cannot be read means; None for an error of another kind."""
    for cause in chain(error):
        named = type(cause).__name__ == "SafetensorError"  # that package is not everywhere
        if named or isinstance(cause, struct.error) or "cannot mmap an empty file" in str(cause):
            return f"A file of {model!r} is damaged or was not downloaded to its end: fetch it again. {cause}"
    return None


def of_the_disk(error: BaseException, folder: Path, variable: str) -> str | None:
    """Returns what a full or forbidden disk means; None for an error of another kind."""
    for cause in chain(error):
        if not isinstance(cause, OSError):
            continue
        if cause.errno in _FULL:
            return disk_full(folder, None, variable)
        if cause.errno in _FORBIDDEN:
            return (
                f"Cannot use {cause.filename or folder}: {cause.strerror}. Set {variable} to a folder that this user "
                "may read and write, or let a user who may run `millstream models pull`."
            )
    return None


def disk_full(folder: Path, needed: int | None, variable: str) -> str:
    """Returns what to do about a disk without room for `needed` bytes."""
    wants = f"{gib(needed)} more are needed, " if needed is not None else ""
    return (
        f"The disk of {folder} is too full: {wants}{gib(free(folder))} are free. Remove something (`millstream models "
        f"list`), or set {variable} to another disk; what was fetched is kept, and the next try goes on there."
    )


def free(folder: Path) -> int:
    """Returns the free bytes of the disk on which `folder` lies or would lie."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free


def gib(count: int) -> str:
    """Returns an amount of bytes for a reader."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.1f} MiB"
