"""A request's bytes to JSON: bounded before anything is made of them, parsed once.

Parsing holds the interpreter for as long as it takes, in whichever thread it runs, so a body must not be able to take
long. Bytes alone do not say how long: 16 MB of text are parsed in 40 ms, 16 MB of noughts in 600, a million names in
2000, and what is then done for each object costs far more than its bytes. So all these are counted first, at the speed
of memory.
"""

import json
from dataclasses import dataclass

from millstream.gateway.errors.table import FieldError
from millstream.gateway.errors.validation import no_body, no_json

MOST_ENTRIES = 2**20  # of arrays and objects together: a prompt of a million token ids
MOST_FIELDS = 2**17  # of objects: a name costs twenty times what a number does
MOST_OBJECTS = 2**16  # each becomes an object of ours: 16384 messages with calls and parts
WINDOW = 2**20  # bytes looked at together


@dataclass(slots=True)
class Extent:
    """The amount of JSON in a body, counted outside of its strings."""

    entries: int = 0
    fields: int = 0
    objects: int = 0

    @property
    def exceeds(self) -> str:
        """Names what there is too much of, with the limit; empty if all is well."""
        if self.objects > MOST_OBJECTS:
            return f"{MOST_OBJECTS} objects"
        if self.fields > MOST_FIELDS:
            return f"{MOST_FIELDS} fields of objects"
        return f"{MOST_ENTRIES} entries in its arrays and objects" if self.entries > MOST_ENTRIES else ""


def parsed(raw: bytes) -> object:
    """Returns the body as JSON has it. Raises `BadRequest` for what is none, or is more than a request may hold."""
    if not raw:
        raise no_body()
    if excess := extent(raw).exceeds:
        message = f"The body is too complex: at most {excess} are accepted in one request."
        raise FieldError(message, param=None, wire_code="body_too_complex")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise no_json() from None


def extent(raw: bytes) -> Extent:
    """At least how much there is, exactly only where that is near a limit; beyond a limit the rest is not counted."""
    if len(raw) <= MOST_OBJECTS:
        return Extent()
    most = _counted(raw)
    return _outside_strings(raw) if most.exceeds else most


def _counted(text: bytes) -> Extent:
    objects = text.count(b"{")
    return Extent(objects + text.count(b"[") + text.count(b","), text.count(b":"), objects)


def _outside_strings(raw: bytes) -> Extent:
    text = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    found, inside = Extent(), 0
    for at in range(0, len(text), WINDOW):
        pieces = text[at : at + WINDOW].split(b'"')
        here = _counted(b"".join(pieces[inside::2]))
        found = Extent(found.entries + here.entries, found.fields + here.fields, found.objects + here.objects)
        if found.exceeds:
            break
        inside ^= (len(pieces) - 1) & 1
    return found
