"""Detokenising one token at a time gives the text of all, never half a character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.text.detokenize import Detokenizer

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


@pytest.fixture(scope="module")
def sentencepiece() -> HuggingFaceTokenizer:
    """Llama 2's and Mistral's way: a blank begins a word, and the first one of a text is not shown."""
    words = ["<unk>", "\u2581The", "\u2581mill", "\u2581turns", "s", "."]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return HuggingFaceTokenizer(PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"), frozenset())


def test_the_first_blank_of_a_continuation_is_told(sentencepiece: HuggingFaceTokenizer) -> None:
    prompt, answer = [1, 2], [3, 1, 5]
    assert sentencepiece.decode(prompt + answer) == "The mill turns The."
    going_on, anew = Detokenizer(sentencepiece, before=prompt), Detokenizer(sentencepiece)
    assert "".join(going_on.feed(token) for token in answer) == " turns The."
    assert "".join(anew.feed(token) for token in answer) == "turns The."


def test_a_character_begun_in_the_prompt_is_told_once_it_is_whole() -> None:
    mill = list("🌊".encode())
    detokenizer = Detokenizer(tokenizer, before=[65, *mill[:2]])
    assert "".join(detokenizer.feed(token) for token in [*mill[2:], 66]).endswith("B")
