"""Detokenising one token at a time gives the text of all, never half a character."""

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.detokenize import Detokenizer
from worker.engines.simulated_tokenizer import SimulatedTokenizer

tokenizer = SimulatedTokenizer()


@settings(deadline=None)
@given(st.text(max_size=40))
def test_every_piece_is_whole_characters(text: str) -> None:
    text = text.replace("\ufffd", "")
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.feed(token) for token in tokenizer.encode(text, special=False)]
    assert "".join(pieces) == text and all("\ufffd" not in piece for piece in pieces)
    assert detokenizer.flush() == ""


@settings(deadline=None)
@given(st.lists(st.integers(0, 257), max_size=40))
def test_bytes_that_are_no_text_come_as_the_tokenizer_writes_them(ids: list[int]) -> None:
    detokenizer = Detokenizer(tokenizer)
    delivered = "".join(detokenizer.feed(token) for token in ids) + detokenizer.flush()
    assert delivered == tokenizer.decode(ids)


def test_garbage_does_not_wait_for_ever() -> None:
    detokenizer = Detokenizer(tokenizer)
    assert sum(len(detokenizer.feed(0x80)) for _ in range(100)) >= 90


def test_an_unfinished_character_is_told_at_the_end() -> None:
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.feed("é".encode()[0]) == ""
    assert detokenizer.flush() == "\ufffd"
