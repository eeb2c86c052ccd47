"""`millstream chaos`: clients that check every token, while gateways, workers and Redis die under them.

    millstream chaos --seconds 600 --clients 24 --faults worker-kill,gateway-kill

Each client asks for answers of random length whose every token is known beforehand, and comes back when its stream
breaks. The exit status is 0 only if not one token was lost, repeated or foreign, and every answer came to its end.
"""

import asyncio
import random
import secrets
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from millstream.bench.chaos import sdk_client
from millstream.bench.chaos.background import Unattended
from millstream.bench.chaos.books import settled_books
from millstream.bench.chaos.faults import Faults
from millstream.bench.chaos.report import FaultTally, report
from millstream.bench.chaos.sdk_client import SdkClient
from millstream.bench.chaos.settings import ChaosSettings
from millstream.bench.chaos.site import MODEL, ChaosSite
from millstream.bench.chaos.stream import Ask, StreamClient, judge
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import model_info
from millstream.common.errors import Unavailable
from millstream.common.process.tasks import TaskGroup

LAST_ANSWERS = 120.0  # seconds the streams still open may take when the time is over
SLOWNESS = 0.05  # seconds a slow client takes over each event
SDK_EVERY = 4  # one client in so many is OpenAI's SDK, where that is installed
QUIET = 30.0  # seconds after the last answer until nothing may be held any more


@dataclass
class Crowd:
    """All clients of a run, and what they found."""

    site: ChaosSite
    faults: Faults
    tally: FaultTally = field(default_factory=FaultTally)
    _asked: int = 0

    async def run(self, seconds: float) -> None:
        """Asks until the time is over, then reads to the end what was begun."""
        until = monotonic() + seconds
        try:
            async with asyncio.timeout(seconds + LAST_ANSWERS), TaskGroup() as tasks:
                for _ in range(self.site.settings.clients):
                    tasks.create_task(self._ask_on(until))
        except TimeoutError:
            self.tally.hung = self.tally.open

    async def _ask_on(self, until: float) -> None:
        while monotonic() < until:
            self.tally.open += 1
            await self._ask()
            self.tally.open -= 1

    async def _ask(self) -> None:
        settings, choice = self.site.settings, self.site.choice
        self._asked += 1
        tokens = choice.randrange(5, settings.longest)
        ask = Ask(MODEL, f"question {self._asked}", choice.randrange(1 << 31), tokens)
        key, kind = f"chaos-{self._asked}", choice.random()
        if kind < settings.leaving:
            await self._leave(StreamClient(self.site.http, self.site.gateway, ask, key), choice.randrange(1, tokens))
            return
        by_sdk = self._asked % SDK_EVERY == 0 and sdk_client.there()
        client = (SdkClient if by_sdk else StreamClient)(self.site.http, self.site.gateway, ask, key)
        self.tally.by_sdk += by_sdk
        client.pace = SLOWNESS if kind > 1 - settings.slow else 0.0
        began = monotonic()
        heard = await client.run()
        self.tally.add(heard, judge(ask, heard, complete=not heard.errors), excused=self._failed_over_since(began))
        self.tally.add_gaps(heard, self.faults.struck)

    def _failed_over_since(self, began: float) -> bool:
        """Tells whether a replica may have taken over without what the primary had acknowledged."""
        return self.site.settings.topology == "sentinel" and self.faults.may_have_lost(began)

    async def _leave(self, client: StreamClient, words: int) -> None:
        """Reads some of it and goes, not to come back: the job is to be cancelled."""
        client.key = ""
        reading = asyncio.create_task(client.listen())
        while not reading.done() and len(client.heard.arrivals) < words:
            await asyncio.wait({reading}, timeout=0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        self.tally.add_left(client.heard, judge(client.ask, client.heard, complete=False))


async def quiet(broker: Broker) -> bool:
    """Tells whether soon after the last answer no worker holds a job and none waits."""
    until = monotonic() + QUIET
    while monotonic() < until:
        try:
            info = await model_info(broker, MODEL)
            if info.waiting == 0 and not any(worker.load for worker in info.workers):
                return True
        except Unavailable:
            pass  # it may be just coming back
        await asyncio.sleep(0.1)
    return False


async def chaos(settings: ChaosSettings, directory: Path) -> FaultTally:
    """Makes one run and returns what it found."""
    choice = random.Random(settings.seed if settings.seed is not None else secrets.randbits(32))
    async with ChaosSite(settings, directory, choice) as site:
        await site.until_served()
        faults = Faults(site)
        crowd, unattended = Crowd(site, faults), Unattended(site, faults)
        began = monotonic()
        async with TaskGroup() as tasks:
            tasks.create_task(faults.run(settings.seconds))
            tasks.create_task(crowd.run(settings.seconds))
            tasks.create_task(unattended.run(settings.seconds))
        crowd.tally.seconds = monotonic() - began
        crowd.tally.struck, crowd.tally.pairs = list(faults.struck), faults.pairs
        crowd.tally.unattended = unattended.tally
        crowd.tally.quiet = await quiet(site.broker)
        crowd.tally.books = await settled_books(site.broker)
    return crowd.tally


def run(settings: ChaosSettings) -> int:
    """Runs the command and returns its exit status."""
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": secrets.randbits(32)})
    sys.stdout.write(f"seed {settings.seed}: {settings.clients} clients for {settings.seconds:g} s\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="millstream-chaos-") as temporary:
        tally = asyncio.run(chaos(settings, settings.directory or Path(temporary)))
    sys.stdout.write(report(tally))
    return 0 if tally.good else 1
