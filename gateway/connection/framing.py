"""How events follow each other in a stream's body, which is what its media type says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Framing:
    """One media type for streams."""

    media_type: bytes
    comments: bool  # whether something can be sent in a silence that no reader takes for an event
    farewell: bytes  # the last bytes of a stream that a stopping gateway cuts off
