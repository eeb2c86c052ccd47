"""Cached prompt beginnings are found under their own salt alone, and finding them changes no token."""

from millstream.worker.engines.transformers.prefix_salt import Salted, salt_tokens
from tests.worker.engines.rig import Rig

SYSTEM = [(i * 7 + 5) % 250 for i in range(100)]  # six whole pages of 16, and four tokens


def test_each_salt_has_pages_of_its_own(tiny: Rig) -> None:
    def cached(salt: str, *more: int) -> int:
        (told,) = tiny.run(tiny.spec([*SYSTEM, *more], 3, cache_salt=salt))
        return told[0].cached

    assert [cached("acme", 1), cached("rival", 1), cached("", 1)] == [0, 0, 0]
    assert [cached("acme", 2), cached("rival", 2), cached("", 2)] == [96, 96, 96]
    assert cached("third", 2) == 0


def test_side_by_side_and_through_the_answer(tiny: Rig) -> None:
    """Both at once, past several pages: each goes on with its own pages, the tokens are those of an unshared run."""
    prompt = [*SYSTEM, 9, 9]
    alone = tiny.one(prompt, 40)
    salts = ["acme", "rival", "acme", "rival"]
    together = tiny.tokens(*(tiny.spec(prompt, 40, cache_salt=salt) for salt in salts))
    assert together == [alone] * 4
    history = [*prompt, *alone, 7]
    (first,), (second,) = (tiny.run(tiny.spec(history, 5, cache_salt=salt)) for salt in ("acme", "new"))
    assert (first[0].cached, second[0].cached) == (128, 0)
    assert [o.token for o in first] == [o.token for o in second]


def test_a_salt_is_hashed_before_the_first_whole_page_only() -> None:
    salt = list(salt_tokens("acme"))
    assert len(salt) == 4 and salt != list(salt_tokens("rival")) and not list(salt_tokens(""))
    seen = Salted(salt, list(range(10)))
    assert (len(seen), seen[0:4], seen[4:8], seen[8:12]) == (10, [*salt, 0, 1, 2, 3], [4, 5, 6, 7], [8, 9])
    assert Salted(salt, [1, 2])[0:4] == [1, 2]  # not a whole page yet
