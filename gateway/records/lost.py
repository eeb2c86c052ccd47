"""The error for a record that is not there, which says when a restart of Redis may have lost it."""

import time

from millstream.common.errors import NotFound, RecordLost
from millstream.common.request_id import parse_request_id

TAIL = 60.0  # seconds before a restart: what was written then may have been lost with it
RECENT = 600.0  # seconds after a restart in which those who miss something are told of it


def missing(what: str, param: str, identity: str, uptime: float) -> NotFound:
    """Returns the error for a record that a server does not know which has run for `uptime` seconds."""
    created, started = _created(identity), time.time() - uptime
    if created is None and uptime < RECENT:
        hint = f"Redis was restarted {uptime:.0f} s ago; what was made just before that may be lost."
        return NotFound(f"{what}. {hint}", param=param)
    if created is None or not started - TAIL <= created <= started:
        return NotFound(f"{what}.", param=param)
    later = max(0.0, started - created)
    return RecordLost(f"{what}: Redis was restarted {later:.0f} s after it was made, and has lost it.", param=param)


def _created(identity: str) -> int | None:
    """Returns when it was made, if its id tells (seconds since the epoch)."""
    try:
        return parse_request_id(identity).created
    except NotFound:
        return None
