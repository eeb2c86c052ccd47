"""The faults of `millstream chaos`: when each strikes, alone or with another one, and which may not meet."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic

from millstream.bench.chaos.settings import Fault
from millstream.bench.chaos.site import ChaosSite
from millstream.bench.chaos.strikes import Loss, Strikes, Struck
from millstream.common.errors import Unavailable
from millstream.common.process.tasks import TaskGroup

FSYNC = 2.0  # seconds that a lost tail may reach back before the fault, at most
OF_ONE_SERVER: frozenset[Fault] = frozenset({"redis-restart", "redis-truncate", "redis-freeze", "redis-failover"})


@dataclass
class Faults:
    """Strikes a site. `pairs` counts the moments at which two faults struck."""

    site: ChaosSite
    struck: list[Struck] = field(default_factory=list[Struck])
    losses: list[Loss] = field(default_factory=list[Loss])
    pairs: int = 0

    def may_have_lost(self, since: float) -> bool:
        """Tells whether Redis may have forgotten what it had acknowledged since that moment."""
        return any(loss.end > since - FSYNC for loss in self.losses)

    async def run(self, seconds: float) -> None:
        """Strikes at random until the time is over. What came late, because a server was just coming back, is made up
        for."""
        settings, choice = self.site.settings, self.site.choice
        due = monotonic()
        until = due + seconds
        async with TaskGroup() as revivals:
            strikes = Strikes(self.site, self.struck, self.losses, revivals)
            while due < until:
                faults = self._next()
                due += choice.uniform(0.5, 1.5) * len(faults) * 60 / settings.faults_per_minute
                await asyncio.sleep(min(due, until) - monotonic())
                if monotonic() < until:
                    await self._strike(strikes, faults)

    def _next(self) -> list[Fault]:
        """Returns one fault, or two that may meet."""
        settings, choice = self.site.settings, self.site.choice
        first = choice.choice(settings.striking)
        beside: list[Fault] = [fault for fault in settings.striking if may_meet(first, fault, settings.forgetful)]
        if beside and choice.random() < settings.two_at_once:
            second = choice.choice(beside)
            return [first, second]
        return [first]

    async def _strike(self, strikes: Strikes, faults: list[Fault]) -> None:
        await strikes.may_strike(faults)
        before = len(self.struck)
        async with TaskGroup() as tasks:
            for fault in faults:
                tasks.create_task(self._strike_one(strikes, fault))
        self.pairs += len(self.struck) - before > 1

    async def _strike_one(self, strikes: Strikes, fault: Fault) -> None:
        try:
            await strikes.strike(fault)
        except Unavailable:
            pass  # Redis is not back yet: nobody to choose from


def may_meet(one: Fault, other: Fault, forgetful: frozenset[Fault]) -> bool:
    """Tells whether two faults may strike in the same moment: no two are done to the same Redis server, and Redis never
    loses its tail together with the gateway that knows it, which is beyond the promise."""
    both: set[Fault] = {one, other}
    return one != other and not both <= OF_ONE_SERVER and not ("gateway-kill" in both and both & forgetful)
