"""`millstream up`: the queue, a gateway, a background process and workers in one terminal, each a supervised child.

Stopped in the order of dependence: the gateway takes no more requests, workers finish or hand back, then the queue.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TextIO, cast

import typer

from millstream.cli.faults import tell
from millstream.cli.flags import read
from millstream.cli.settings import UpSettings
from millstream.cli.up.address import CannotStart, base_url, port_to_listen, until_it_answers
from millstream.cli.up.banner import banner, curl_line, example_model
from millstream.cli.up.eviction import evictor, workers_of_process
from millstream.cli.up.first_names import announce_first_names
from millstream.cli.up.log_file import LogFile
from millstream.cli.up.log_view import OwnLog, plain
from millstream.cli.up.opening import level_of_parts, open_screen
from millstream.cli.up.orderly_stop import OrderlyStop
from millstream.cli.up.screen import Listener, Screen
from millstream.common import telemetry
from millstream.common.broker.accounts.keyring import count_keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.embedded_access import FOLDER, PASSWORD
from millstream.common.broker.models.directory import ModelInfo, census
from millstream.common.errors import Unavailable
from millstream.common.process.addresses import loopback
from millstream.common.process.command import own_command
from millstream.common.process.folders import own_folder
from millstream.common.process.stopping import on_stop_signals
from millstream.common.process.supervise import Child, GaveUp, Program
from millstream.common.process.tasks import TaskGroup
from millstream.common.settings import ClusterSettings, child_environment
from millstream.gateway.settings import GatewaySettings

LOOK_INTERVAL = 0.1  # seconds between two looks whether a child is ready
FORGET_AFTER = 60.0  # seconds a model without workers stays listed on a queue that is ours alone
LONGEST_REASON = 500  # characters of a line repeated when a part is given up
STOP_MARGIN = 5.0  # seconds beyond the drain window until a child that does not stop is killed


@dataclass
class LocalCluster:
    """The running parts, and why they are to stop."""

    settings: UpSettings
    gateway_settings: GatewaySettings
    screen: Screen
    log: LogFile | None
    broker: Broker
    base_url: str
    gateway: Child
    background: Child
    workers: list[Child]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    failure: GaveUp | None = None

    @property
    def children(self) -> list[Child]:
        return [self.gateway, self.background, *self.workers]

    async def run(self) -> None:
        """Runs until told to stop, or until a part cannot be made to work."""
        async with TaskGroup() as tasks:
            for child in self.children:
                self.screen.loading(child.program.name, "starting", None)
                tasks.create_task(self._keep(child))
            watch = tasks.create_task(self._announce())
            await self.stop.wait()
            watch.cancel()
            orderly = OrderlyStop(self.screen, self.broker, self.settings.drain + STOP_MARGIN)
            await orderly.stop((self.gateway, self.background), self.workers)

    def on_signal(self) -> None:
        """Stops in order at the first signal, at once at the second."""
        if self.stop.is_set():
            for child in self.children:
                child.signal(signal.SIGKILL)
        else:
            self.stop.set()
            self.screen.close()
            at_most = f"for {self.settings.drain:g} s at most"
            self.screen.say(f"\nStopping: running answers may finish, {at_most}. Ctrl-C again stops at once.")

    async def _keep(self, child: Child) -> None:
        try:
            await child.run()
        except GaveUp as error:
            self.failure = self.failure or error
            self.stop.set()

    async def _announce(self) -> None:
        """Tells of each part that is ready; with the first worker (or none wanted) the address and a line to try."""
        await until_it_answers(self.base_url)
        self._is_ready(self.gateway)
        waiting, shown = list(self.workers), False
        while waiting or not shown:
            for child in [child for child in waiting if await self._serves(child)]:
                waiting.remove(child)
                self._is_ready(child)
            if not shown and (len(waiting) < len(self.workers) or not self.workers):
                shown = True
                await self._greet()
            await asyncio.sleep(LOOK_INTERVAL)

    def _is_ready(self, child: Child) -> None:
        child.ready()
        self.screen.ready(child.program.name)

    async def _serves(self, child: Child) -> bool:
        try:
            found = await workers_of_process(self.broker, child.pid) if child.pid else []
        except Unavailable:
            return False
        return any(worker.alive for worker in found)

    async def _greet(self) -> None:
        try:
            models = [info for info in await census(self.broker) if info.live]
            keys = await count_keys(self.broker) > 0
        except Unavailable:
            models, keys = [], False  # gone in this moment; the address is true all the same
        secret = None if self.settings.redis_url else self.settings.state_dir.expanduser().resolve() / FOLDER / PASSWORD
        log = self.log.path if self.log else None
        curl = self._curl(models, keys=keys)
        self.screen.say(banner(self.base_url, self.broker.url, models, curl, password_file=secret, log=log))

    def _curl(self, models: list[ModelInfo], *, keys: bool) -> str:
        gateway = self.gateway_settings
        needs_key = keys or gateway.require_keys or bool(gateway.api_keys or gateway.api_keys_file)
        insecure = gateway.ssl_certfile is not None
        return curl_line(self.base_url, example_model(models), needs_key=needs_key, insecure=insecure)


async def up(settings: UpSettings, screen: Screen, log: LogFile | None) -> None:
    """Runs a cluster until Ctrl-C or SIGTERM. Raises `CannotStart` or `Unavailable`."""
    port = port_to_listen(settings.host, settings.port)
    async with AsyncExitStack() as stack:
        screen.say("queue: starting the embedded Valkey" if not settings.redis_url else "queue: yours")
        url = await stack.enter_async_context(_queue(settings))
        broker = await stack.enter_async_context(Broker(url, model_redis=settings.model_redis))
        await announce_first_names(broker, settings)
        cluster = _cluster(settings, screen, log, broker, port)
        on_stop_signals(cluster.on_signal)
        with screen:
            await cluster.run()
    if cluster.failure is not None:
        raise CannotStart(_why(cluster.failure))


@asynccontextmanager
async def _queue(settings: UpSettings) -> AsyncGenerator[str]:
    if settings.redis_url:
        yield settings.redis_url
        return
    state = own_folder(settings.state_dir, "MILLSTREAM_STATE_DIR", "HOME")
    async with EmbeddedValkey(state / FOLDER, settings.valkey_port, protected=True) as valkey:
        yield valkey.url


def _cluster(settings: UpSettings, screen: Screen, log: LogFile | None, broker: Broker, port: int) -> LocalCluster:
    gateway = read(GatewaySettings, {})
    common = ["--drain", f"{settings.drain:g}"]
    where = ["--host", settings.host, "--port", str(port)]
    what = ["--engine", settings.engine, "--model", settings.model]
    files = gateway.files_url if "files_url" in gateway.model_fields_set else str(settings.state_dir / "files")
    shared = {name: str(getattr(settings, name)) for name in ClusterSettings.model_fields}
    local = gateway.local_workers if "local_workers" in gateway.model_fields_set else loopback(settings.host)
    own = {"redis_url": broker.url, "log_format": "json", "files_url": files, "local_workers": str(local).lower()}
    own["log_level"] = level_of_parts(settings, screen)
    if not settings.redis_url and "forget_models_after" not in gateway.model_fields_set:
        own["forget_models_after"] = f"{FORGET_AFTER:g}"
    environment = child_environment(**{**shared, **own, **_upstream(settings)})

    def child(name: str, *arguments: str, worker: bool = False) -> Child:
        program = Program(name, own_command(*arguments), environment)
        listen = Listener(name, screen).line
        return Child(program, listen, evictor(broker, settings.max_attempts)) if worker else Child(program, listen)

    return LocalCluster(
        settings=settings,
        gateway_settings=gateway,
        screen=screen,
        log=log,
        broker=broker,
        base_url=base_url(settings.host, port, tls=gateway.ssl_certfile is not None),
        gateway=child("gateway", "gateway", *where, *common),
        background=child("background", "background"),
        workers=[child(f"worker-{n}", "worker", *what, *common, worker=True) for n in range(1, settings.workers + 1)],
    )


def _upstream(settings: UpSettings) -> dict[str, str]:
    """Returns the upstreams as variables: an address may hold a password, which a flag would show."""
    key = settings.upstream_key.get_secret_value() if settings.upstream_key else ""
    return {"upstream": ",".join(settings.upstream), "upstream_key": key}


def _why(failure: GaveUp) -> str:
    """Returns why it cannot start. The last lines were shown as they came; here is what they said, in short."""
    said = [plain(line)[:LONGEST_REASON] for line in failure.exit.last_lines[-3:]]
    return "\n".join([f"{failure} Its last words:", *(f"  {line}" for line in said)])


def run(settings: UpSettings) -> int:
    """Runs the command and returns its exit status. Raises `MillstreamError`."""
    sys.stdout, sys.stderr = telemetry.LastingStream(sys.stdout), telemetry.LastingStream(sys.stderr)
    screen, log = open_screen(settings)
    own = cast(TextIO, OwnLog(Listener("up", screen).line))
    telemetry.configure("json", level_of_parts(settings, screen), {"process": "up"}, own)
    try:
        asyncio.run(up(settings, screen, log))
    except CannotStart as error:
        where = f"\nThe log is {log.path}." if log else ""
        sys.stderr.write(f"millstream: {error}{where}\n")
        return 1
    except typer.BadParameter:
        raise  # a wrong setting: told as of any command
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told while the log can still take it)
        return tell(error)
    finally:
        if log:
            log.close()
    return 0
