"""The API key that a batch works for, as it is now: a revoked one stops its batches, changed limits hold for them."""

import time
from collections.abc import Awaitable, Callable

import msgspec

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.gateway.records.batches import Batch, unmetered

LOOK_EVERY = 1.0  # seconds between two looks at the key: as fresh as at a gateway
REVOKED = {"code": "key_revoked", "message": "The API key of this batch was revoked.", "param": None, "line": None}
KeyLookup = Callable[[str], Awaitable[ApiKey | None]]  # by a key's digest; None: revoked


class BatchKey:
    """Begins as the key was when the batch was made. Keys of a gateway's settings, and none, stay as they were."""

    def __init__(self, batch: Batch, find: KeyLookup | None) -> None:
        self._batch = batch
        self._digest = batch.state.get("key_digest", "")
        self._find = find
        self._looked = 0.0
        self._key = batch.key
        self.revoked = False

    def now(self) -> ApiKey:
        """Returns the state of the key when it was last looked at."""
        return self._key

    async def look(self) -> None:
        """Once a second at most. Raises `Unavailable`."""
        if self._find is None or not self._digest or time.monotonic() - self._looked < LOOK_EVERY:
            return
        found = await self._find(self._digest)
        self._looked = time.monotonic()
        self.revoked = found is None
        if found is not None:  # the work stays that of the tenant who gave it
            self._key = unmetered(msgspec.structs.replace(found, tenant=self._batch.tenant))
