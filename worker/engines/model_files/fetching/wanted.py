"""Reads the name of a model that is to be fetched: on the hub, on ModelScope, or one GGUF file at an address."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.fetching.listing import SourceName

_HUB_PAGE = re.compile(r"/([^/]+/[^/]+)/(?:resolve|blob)/([^/]+)/(.+\.gguf)")
_OF_MODELSCOPE = re.compile(r"[\w.-]+/[\w.-]+")
_HUBS = ("huggingface.co", "www.huggingface.co", "hf.co")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model by its name at its source. `gguf`: the one file that is wanted of it; for an address it is its last
    part."""

    source: SourceName
    name: str
    revision: str | None
    gguf: str | None = None

    @property
    def given(self) -> str:
        """Returns the name as a user gives it."""
        return self.name if self.gguf is None or self.source == "url" else f"{self.name}/{self.gguf}"

    @property
    def called(self) -> str:
        """Returns what the model is called where nobody gives it another name."""
        return Path(self.gguf).stem if self.gguf else self.name.rstrip("/").rsplit("/", 1)[-1]


def read_name(name: str, revision: str | None, source: Literal["hub", "modelscope"]) -> Wanted:
    """Returns what a name means. Raises `LoadFailed` for one that can mean nothing."""
    if name.startswith(("http://", "https://")):
        return _at_address(name, revision)
    parts = name.split("/")
    gguf = "/".join(parts[2:]) if name.endswith(".gguf") and len(parts) > 2 else None
    wanted = Wanted(source, "/".join(parts[:2]) if gguf else name, revision, gguf)
    if source == "modelscope" and not _OF_MODELSCOPE.fullmatch(wanted.name):
        raise LoadFailed(f"{name!r} is no id of ModelScope: it is OWNER/NAME.", param="model")
    return wanted


def _at_address(address: str, revision: str | None) -> Wanted:
    split = urlsplit(address)
    path = unquote(split.path)
    if split.hostname in _HUBS and (found := _HUB_PAGE.fullmatch(path)):
        return Wanted("hub", found[1], revision or found[2], found[3])
    if not path.endswith(".gguf"):
        raise LoadFailed(
            f"{address!r} is no address of a GGUF file: give one that ends with .gguf, or a model's id.", param="model"
        )
    return Wanted("url", address, None, path.rsplit("/", 1)[-1])
