"""Prefixes are shared within a tenant and an adapter: the hash of a prompt's first cache page begins with the job's
salt.

Every page's hash holds that of the page before, so all of a prompt's pages are found under the same salt alone. What is
computed, and where each token stands, does not change.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# (like `batching.py` it uses the library's internals on purpose)

from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

SaltOf = Callable[[str], Sequence[int]]  # of a request in the batch, by its id


def salt_tokens(salt: str, adapter: str = "") -> Sequence[int]:
    """Four numbers of 32 bits, which the library hashes as if they were tokens; none without a salt and an adapter. No
    salt makes the numbers of an adapter, whose keys and values are others: its digest is a key, and no part, of what
    is hashed."""
    if not salt and not adapter:
        return ()
    return array("i", blake2b(salt.encode(), digest_size=16, key=adapter.encode()).digest())


class Salted(Sequence[int]):
    """A prompt as the library's ledger of pages is to see it."""

    def __init__(self, salt: Sequence[int], tokens: Sequence[int]) -> None:
        self._salt = salt
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, place: Any) -> Any:
        """A page is a slice; a first one that is not full yet is none, and hashed by nobody."""
        found = self._tokens[place]
        if isinstance(place, slice) and place.start == 0 and len(found) == place.stop:
            return [*self._salt, *found]
        return found


def salt_prefixes(cache: Any, salt_of: SaltOf) -> None:
    """Has the cache look pages up, and keep them, under the salt of their request."""
    search = cache.search_prefix_match

    def search_salted(request_id: str, prompt_ids: list[int]) -> int:
        return search(request_id, Salted(salt_of(request_id), prompt_ids))

    cache.search_prefix_match = search_salted
    for allocator in cache.cache_allocators.values():
        _salt_marks(allocator, salt_of)


def _salt_marks(allocator: Any, salt_of: SaltOf) -> None:
    mark = allocator.mark_complete_blocks

    def mark_salted(request_id: str, token_ids: list[int], new_blocks: int) -> None:
        mark(request_id, Salted(salt_of(request_id), token_ids), new_blocks)

    allocator.mark_complete_blocks = mark_salted
