"""A text as a model reads it: token by token, and where each token stands in the text."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers publishes partly unknown types)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millstream.common.chunk import TokenClass


@dataclass(frozen=True, slots=True)
class ReadText:
    """The tokens of one text: their ids, spellings, places `(start, end)` in characters (None where the tokenizer does
    not tell), and which of them are special."""

    ids: list[int]
    spelt: list[str]
    places: list[tuple[int, int] | None]
    special: list[bool]


def read_text(tokenizer: Any, text: str) -> ReadText:
    """Returns the text as `tokenizer`, one of transformers', reads it, with the special tokens that belong to it."""
    told = tokenizer(text, return_offsets_mapping=tokenizer.is_fast, return_special_tokens_mask=True)
    ids: list[int] = list(told["input_ids"])
    offsets: list[Any] = told["offset_mapping"] if tokenizer.is_fast else [None] * len(ids)
    places = [None if place is None else (int(place[0]), int(place[1])) for place in offsets]
    spelt = [
        text[place[0] : place[1]] if place else str(tokenizer.convert_ids_to_tokens(id))
        for id, place in zip(ids, places, strict=True)
    ]
    return ReadText(ids, spelt, places, [bool(flag) for flag in told["special_tokens_mask"]])


def told_tokens(read: ReadText, probs: Sequence[list[float]]) -> list[TokenClass]:
    """Returns the tokens that belong to the text itself with the classes' probabilities; of a text that was cut, those
    that are left."""
    told: list[TokenClass] = []
    probs = probs if len(probs) == len(read.ids) else probs[:-1]  # a cut text ends with its closing special token
    for spelt, place, special, chances in zip(read.spelt, read.places, read.special, probs, strict=False):
        if not special:
            start, end = place or (None, None)
            told.append(TokenClass(spelt, start, end, chances))
    return told
