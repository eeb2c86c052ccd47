"""The queue's client together with the loops that keep it going."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from millstream.common.broker.chunks import FrameChannel
from millstream.common.broker.connection.broker import Broker
from millstream.common.job import GatewayId
from millstream.common.process.identity import incarnation
from millstream.common.tracing.span import SpanWriter
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.redis_client import RedisQueueClient, Terms
from millstream.gateway.queue.replay import ignore_ended
from millstream.gateway.queue.untold_endings import UntoldEndings
from millstream.gateway.queue.wait_estimate import WaitEstimator
from millstream.gateway.queue.watchdog import Watchdog

KEEP_ALIVE = 15.0  # seconds of silence until a stream shows that it lives


@dataclass(frozen=True, slots=True)
class ConnectedQueue:
    """One gateway's queue. Whoever opens it runs the `loops`, by name, until it is closed."""

    client: RedisQueueClient
    gateway: GatewayId
    hub: FrameHub
    wait_estimator: WaitEstimator
    loops: Mapping[str, Callable[[], Awaitable[None]]]


def connected_queue(
    broker: Broker, terms: Terms, keep_alive: float = KEEP_ALIVE, spans: SpanWriter | None = None
) -> ConnectedQueue:
    """Returns a queue whose gateway has a new name. `spans`: where those go that no worker can write."""
    gateway = GatewayId(incarnation("gateway"))
    hub, wait_estimator = FrameHub(), WaitEstimator(broker)
    endings = UntoldEndings(broker, spans) if spans is not None else None
    ended = endings.note if endings is not None else ignore_ended
    client = RedisQueueClient(broker, gateway, hub, wait_estimator, terms, ended)
    watchdog = Watchdog(broker, gateway, hub, wait_estimator, keep_alive)
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "names": client.names.watch,
        **{_frames(at): partial(_read, hub, broker, server, gateway) for at, server in enumerate(broker.servers)},
        "watchdog": watchdog.watch,
        "tidy": client.tidy,
    }
    if endings is not None:
        loops["endings"] = endings.run
    return ConnectedQueue(client, gateway, hub, wait_estimator, loops)


def _frames(at: int) -> str:
    """Returns the loop's name: `frames` at home, `frames_1` at the first server of single models."""
    return f"frames_{at}" if at else "frames"


async def _read(hub: FrameHub, broker: Broker, server: Broker, gateway: GatewayId) -> None:
    await hub.read(FrameChannel(server.url, gateway), lambda model: broker.of(model) is server)
