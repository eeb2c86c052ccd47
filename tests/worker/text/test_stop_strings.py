"""Stop strings, against their plain definition, however the text is cut."""

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.worker.text.stop_strings import StopMatcher, partial

letters = st.text("ab\n", max_size=30)
pieces = st.lists(st.text("ab\n", max_size=5), max_size=12)
stop_lists = st.lists(st.text("ab\n", min_size=1, max_size=7), max_size=6)


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


@settings(deadline=None)
@given(st.text("ab", max_size=40), st.lists(st.text("ab", min_size=1, max_size=6), max_size=4))
def test_only_what_may_still_become_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    """A client sees every character as soon as it is certain."""
    matcher = StopMatcher(stops)
    delivered = matcher.feed(text)
    if not matcher.hit:
        held = max((partial(text, stop) for stop in stops), default=0)
        assert delivered == text[: len(text) - held]


def test_long_stop_strings_that_never_come_cost_no_more_than_short_ones() -> None:
    """All of them almost complete with every character; looking for each anew would take hours."""
    stops = ["a" * 4000 + "!", *("b" + "a" * (60 + i) + "!" for i in range(63))]
    matcher = StopMatcher(stops)
    delivered = sum(len(matcher.feed("aaaa")) for _ in range(100_000))
    assert (delivered, len(matcher.flush())) == (396_000, 4000)


def test_a_beginning_of_another_word_is_no_word() -> None:
    """While `abcx` is followed, `bc` completes within it."""
    matcher = StopMatcher(["abcx", "bc"])
    assert matcher.feed("zab") + matcher.feed("c") == "za"
    assert matcher.stopped_by == "bc"
