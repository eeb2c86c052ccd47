"""Bad words become the token sequences that would say them, at the beginning of a text and after a blank."""

from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.text.bad_words import banned_sequences


def test_each_word_is_banned_with_and_without_a_blank() -> None:
    assert banned_sequences(SimulatedTokenizer(), ["ab", " ab", "", " "]) == [[97, 98], [32, 97, 98]]
