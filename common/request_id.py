"""A request's id, readable by any gateway: when it was made, how many jobs it has, and a hint of its model.

    chatcmpl-69c1a2b3003a1b2c0123456789abcdef
    family   seconds |  |    random
                  jobs  model (a checksum)

So an event's `created` is the same on a resumed stream, and a request can be cancelled from any gateway with its id
alone. One job has the request's id, several have `<request>-<index>`.
"""

import secrets
import time
import zlib
from dataclasses import dataclass
from typing import Literal, cast

from millstream.common.errors import NotFound
from millstream.common.job import JobId, ModelName

Family = Literal["chatcmpl", "cmpl", "resp", "msg", "embd", "rerank", "classify", "tok", "audio"]
FAMILIES: frozenset[str] = frozenset(("chatcmpl", "cmpl", "resp", "msg", "embd", "rerank", "classify", "tok", "audio"))


def checksum(model: ModelName) -> str:
    """Returns five hexadecimal digits that tell a cluster's models apart."""
    return f"{zlib.crc32(model.encode()) & 0xFFFFF:05x}"


@dataclass(frozen=True, slots=True)
class RequestId:
    """The parts of an id; `text` is the whole."""

    text: str
    created: int  # seconds since the epoch
    count: int  # jobs
    model: str  # the model's checksum

    @property
    def family(self) -> Family:
        """Returns the kind of answer that it names."""
        return cast(Family, self.text[:-33])

    def jobs(self) -> list[JobId]:
        """Returns the ids of its jobs, in the order of the choices."""
        if self.count == 1:
            return [JobId(self.text)]
        return [JobId(f"{self.text}-{index}") for index in range(self.count)]


def separator(family: str) -> str:
    """Returns the separator: OpenAI writes `chatcmpl-…` but `resp_…`; Anthropic writes `msg_…`."""
    return "_" if family in ("resp", "msg") else "-"


def new_request_id(family: Family, model: ModelName, count: int) -> RequestId:
    """Returns a fresh id for a request of `count` jobs."""
    created = int(time.time())
    digits = f"{created:08x}{count:03x}{checksum(model)}{secrets.token_hex(8)}"
    return RequestId(f"{family}{separator(family)}{digits}", created, count, checksum(model))


def parse_request_id(text: str) -> RequestId:
    """Raises `NotFound` for anything `new_request_id` cannot have made."""
    family, digits = text[:-33], text[-32:]
    known = family in FAMILIES and text[len(family) : len(family) + 1] == separator(family)
    if not known or len(digits) != 32 or set(digits) - set("0123456789abcdef"):
        raise NotFound(f"No request with id '{text[:80]}' was made here.", param="id")
    return RequestId(text, int(digits[:8], 16), int(digits[8:11], 16), digits[11:16])


def request_of(job: str) -> RequestId:
    """Returns the request a job belongs to. Raises `NotFound`."""
    head, _, index = job.rpartition("-")
    return parse_request_id(head if head and index.isdigit() and len(index) < 5 else job)
