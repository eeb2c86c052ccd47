"""Bounds of guides, which clients write."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuideLimits:
    """Bounds how large a guide may be, and what compiling one may cost. What is more is refused before it is
    compiled."""

    bytes: int = 1 << 20  # of the guide's text; of all tools together, where a call is forced
    depth: int = 100  # objects and arrays inside each other in a JSON schema
    rules: int = 2000  # of a Lark grammar; definitions and references of a JSON schema together
    properties: int = 5000  # of all objects of a JSON schema
    strings: int = 10_000  # choices, enum values, literals of a Lark grammar
    regex: int = 16_384  # characters of one regular expression
    seconds: float = 10.0  # one compile
    memory: int = 2048  # MiB that a guide may take of the process that tries it out
    compilers: int = 2  # guides that are compiled at once
