"""The framing of a stream's body: the media type, and what may be sent beside events."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Framing:
    """One media type for streams."""

    media_type: bytes
    comments: bool  # whether something can be sent in a silence that no reader takes for an event
    stop_notice: bytes  # the last bytes of a stream that a stopping gateway cuts off
