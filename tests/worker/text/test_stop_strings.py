"""Stop strings, against their plain definition, however the text is cut."""

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.worker.text.stop_strings import StopMatcher

letters = st.text("ab\n", max_size=30)
pieces = st.lists(st.text("ab\n", max_size=5), max_size=12)
stop_lists = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def plain(text: str, stops: list[str], include: bool) -> str:
    """Read on until the text ends with a stop string; cut the longest one off."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[:end] if include else text[: end - max(map(len, ending))]
    return text


@settings(deadline=None)
@given(pieces, stop_lists, st.booleans())
def test_any_cutting_gives_the_plain_answer(pieces: list[str], stops: list[str], include: bool) -> None:
    matcher = StopMatcher(stops, include)
    delivered = "".join(matcher.feed(piece) for piece in pieces) + matcher.flush()
    assert delivered == plain("".join(pieces), stops, include)


def test_a_mere_beginning_is_held_and_then_delivered() -> None:
    matcher = StopMatcher(["###"])
    assert matcher.feed("a##") == "a"
    assert matcher.flush() == "##" and not matcher.hit


def test_the_stop_string_is_named() -> None:
    matcher = StopMatcher(["END", "###"])
    assert matcher.feed("a #") + matcher.feed("##END") == "a "
    assert matcher.hit and matcher.stopped_by == "###"
