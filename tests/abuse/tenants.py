"""The tenant beside the attack."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from millstream.bench.chaos.fleet import FleetPart
from tests.harness.cluster import CHAT, Cluster, body

HANG = 180.0  # seconds; only a safety net
BAD, GOOD = {"authorization": "Bearer bad"}, {"authorization": "Bearer good"}
QUESTION = body(max_tokens=12, temperature=0, ignore_eos=True, messages=[{"role": "user", "content": "who " * 60}])
Reply = tuple[int, str]


class GoodTenant:
    """Asks the same again and again, each time as the answers before were. Everything it asks is greedy."""

    def __init__(self, site: Cluster, gateway: FleetPart) -> None:
        self._site = site
        self._gateway = gateway
        self.served = 0

    async def ask(self, **changes: Any) -> Reply:
        answer = await self._site.http.post(
            self._gateway.url + CHAT, json=QUESTION | changes, headers=GOOD, timeout=HANG
        )
        if answer.status_code != 200:
            return answer.status_code, answer.text
        return 200, answer.json()["choices"][0]["message"]["content"]

    @asynccontextmanager
    async def served_throughout(self, *kinds: dict[str, Any]) -> AsyncGenerator[None]:
        """Each kind of request is answered before, while the block runs, and after it, always the same."""
        right = [await self.ask(**kind) for kind in kinds]
        assert [status for status, _ in right] == [200] * len(kinds), right
        over = asyncio.Event()

        async def again() -> None:
            last = False
            while not last:
                last = over.is_set()
                assert [await self.ask(**kind) for kind in kinds] == right
                self.served += 1

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(again())
            try:
                yield
            finally:
                over.set()
        assert self.served >= 2, "one round at least during the attack"


async def attack(site: Cluster, gateway: FleetPart, patience: float = HANG, **changes: Any) -> httpx.Response | None:
    """The attacker's request; None if its client left after `patience` seconds."""
    try:
        return await site.http.post(gateway.url + CHAT, json=body(**changes), headers=BAD, timeout=patience)
    except httpx.TimeoutException:
        return None
