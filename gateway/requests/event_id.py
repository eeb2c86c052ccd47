"""SSE ids: the exact place in a request's stream, and back.

One job: `<job>:<seq>`. Several: `<request>:<s0>.<s1>…`, the seq of the last chunk of every choice the client has had.
The usage event stands one after the last chunk.
"""

import re

from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import BadRequest
from millstream.common.request_id import RequestId, parse_request_id

PLACE = re.compile(r"^([A-Za-z0-9_-]{1,80}):(\d{1,9}(?:\.\d{1,9})*)$")


class EventIds:
    """The progress of each choice of one request."""

    def __init__(self, request: RequestId, after: list[Seq] | None = None) -> None:
        self.request = request
        self.seqs: list[Seq] = list(after) if after else [NOTHING_YET] * request.count
        self._prefix = request.text.encode() + b":"

    def mark(self, choice: int, seq: Seq) -> bytes:
        """Notes the place and writes it."""
        if len(self.seqs) == 1:
            return b"%b%d" % (self._prefix, seq)
        self.seqs[choice] = seq
        return self._prefix + ".".join(map(str, self.seqs)).encode()

    def end(self, lasts: list[Seq]) -> bytes:
        """Returns the id of the usage event: one after each choice's last chunk."""
        return self._prefix + ".".join(str(seq + 1) for seq in lasts).encode()


def parse_event_id(text: str) -> EventIds:
    """Reads a client's `Last-Event-ID`. Raises `BadRequest` for what is none, `NotFound` for an id not made here."""
    match = PLACE.match(text)
    if match is None:
        message = f"Invalid 'Last-Event-ID': '{text[:80]}'. Expected the id of an event, `<request>:<position>`."
        raise BadRequest(message, param="Last-Event-ID")
    request = parse_request_id(match[1])
    seqs = [Seq(int(seq)) for seq in match[2].split(".")]
    if len(seqs) != request.count:
        message = f"Invalid 'Last-Event-ID': {len(seqs)} positions for a request of {request.count} choices."
        raise BadRequest(message, param="Last-Event-ID")
    return EventIds(request, seqs)
