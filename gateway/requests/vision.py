"""Images that clients show to a model: checked by their first bytes, before they cost anybody anything."""

# pyright: reportUnknownMemberType=false
# (imagesize takes any kind of path)

import base64
import binascii
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import imagesize

from millstream.common.errors import BadRequest
from millstream.gateway.errors.table import FieldError
from millstream.gateway.services.image_kinds import KINDS, WEB, kind_of

HEAD = 2**20  # characters of an image's text in which its size stands, also after a camera's notes
BEGINNING = 64  # characters that tell an image's kind
_DATA = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class Vision:
    """The bounds of what a model that reads images may be shown. Images at addresses were fetched before: `fetched` has
    them as `data:` URLs, `failed` says why not, each by its address. With `later` they will be, and may pass."""

    most_bytes: int
    most_pixels: int
    fetched: Mapping[str, str] = field(default_factory=dict[str, str])
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    later: bool = False
    _passed: set[str] = field(default_factory=set[str], init=False)  # an API's images are asked for several times

    def data_url(self, source: str, path: str) -> str:
        """Returns the image as a `data:` URL. Raises `BadRequest` naming the field for what is no image, or one too
        large."""
        if source.startswith(WEB):
            if source in self.failed:
                raise _invalid(path, self.failed[source])
            source = self.fetched.get(source, source)
            if self.later and source.startswith(WEB):
                return source
        if source in self._passed:
            return source
        if (found := _DATA.match(source)) is None:
            raise _invalid(path, "give the image itself, as a URL that begins with 'data:image/…;base64,'")
        self._check(source, found.end(), path)
        self._passed.add(source)
        return source

    def can_show(self, source: str) -> bool:
        """Tells whether it is an image that may be shown: one that a tool found, which its client cannot help."""
        try:
            self.data_url(source, "")
        except BadRequest:
            return False
        return True

    def bare(self, encoded: str, path: str) -> str:
        """Returns an image that came as base64 alone as a `data:` URL. Raises as `data_url` does."""
        try:
            kind = kind_of(base64.b64decode(encoded[:BEGINNING]))
        except (binascii.Error, ValueError):
            kind = None
        return self.data_url(f"data:{kind or 'image/png'};base64,{encoded}", path)

    def _check(self, source: str, begin: int, path: str) -> None:
        if (len(source) - begin) * 3 // 4 > self.most_bytes + 2:
            raise _invalid(path, f"the image is larger than {self.most_bytes} bytes")
        head = source[begin : begin + HEAD]
        try:
            data = base64.b64decode(head[: len(head) // 4 * 4], validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid(path, "the image is not base64") from error
        width, height = imagesize.get(io.BytesIO(data)) if kind_of(data) else (-1, -1)
        if width < 1 or height < 1:
            raise _invalid(path, f"it is no {KINDS} image")
        if width * height > self.most_pixels:
            raise _invalid(path, f"the image has {width} x {height} pixels; at most {self.most_pixels} are read")


def _invalid(path: str, why: str) -> FieldError:
    return FieldError(f"Invalid '{path}': {why}.", param=path, wire_code="invalid_value")
