"""The text of a slice, as a model wrote it, is cut into segments by the times that it wrote among the words.

As in OpenAI's reference: two times beside each other are an end and a beginning. What comes after the last such pair is
not complete, so the next slice begins there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FRAMES = 3000  # of a slice, a hundredth of a second each
PER_TIME = 2  # frames between two times that a model can tell
LEAST = 100  # frames by which every slice goes on, so that a recording has no more slices than seconds


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment: its beginning and end in frames of the slice, and its tokens, the times among them."""

    start: int
    end: int
    ids: list[int]


def cut(ids: Sequence[int], first_time: int, frames: int) -> tuple[list[Piece], int]:
    """Returns the segments of a slice of so many frames, and the frames after which the next slice begins. `ids` are
    its tokens without the end token, `first_time` is the token of time 0, after which those of later times follow."""
    times = [token >= first_time for token in ids]
    cuts = [at + 1 for at, (one, next) in enumerate(pairwise(times)) if one and next]
    if not cuts:
        return [_whole(ids, first_time, frames)], frames
    complete = times[-2:] == [False, True]
    ends = [*cuts, len(ids)] if complete else cuts
    pieces = [_piece(ids[start:end], first_time, frames) for start, end in zip([0, *ends], ends, strict=False)]
    went = frames if complete else PER_TIME * (ids[ends[-1] - 1] - first_time)
    return pieces, min(frames, max(LEAST, went))


def _whole(ids: Sequence[int], first_time: int, frames: int) -> Piece:
    told = [token for token in ids if token >= first_time]
    end = PER_TIME * (told[-1] - first_time) if told and told[-1] != first_time else frames
    return Piece(0, min(frames, end), list(ids))


def _piece(ids: Sequence[int], first_time: int, frames: int) -> Piece:
    start, end = (min(frames, max(0, PER_TIME * (token - first_time))) for token in (ids[0], ids[-1]))
    return Piece(start, end, list(ids))
