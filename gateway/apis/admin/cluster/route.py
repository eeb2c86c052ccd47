"""`GET /v1/cluster`, `GET /v1/cluster/events`, and the workers of this machine."""

from contextlib import aclosing
from itertools import count

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import Response

from millstream.common.errors import Unauthorized, Unavailable
from millstream.gateway.access.authentication import authenticate
from millstream.gateway.apis.admin.cluster.examples import CLUSTER, EVENT
from millstream.gateway.apis.admin.cluster.local_workers import LocalVerb, signal_worker
from millstream.gateway.apis.admin.cluster.shape import ClusterState
from millstream.gateway.apis.admin.cluster.view import cluster_state
from millstream.gateway.apis.admin.viewer import InOperations, InViewer, Viewer
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.connection.disconnect import ClientWatch
from millstream.gateway.connection.outlet import Outlet
from millstream.gateway.connection.sse import EventStream
from millstream.gateway.services.cluster_feed import ClusterFeed
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["cluster"])
LOOKS_PER_CHECK = 4  # after so many looks it is asked whether the viewer's key is still good
STREAM = {"example": EVENT}


def feed_of(services: Services) -> ClusterFeed:
    """Returns the process's one look at the cluster. Raises `Unavailable` where there is none."""
    if services.cluster.feed is None:
        raise Unavailable("This gateway has no view of the cluster.")
    return services.cluster.feed


@router.get("/v1/cluster", summary="The cluster now", responses=answers(CLUSTER))
async def read_cluster(viewer: InViewer, services: InServices) -> ClusterState:
    """Returns models, workers, queues by tier and tenant, jobs and Redis' health. A tenant sees its own queues and
    jobs, and of the models those that its key may use; the tenants in `admins` see all."""
    sight = await feed_of(services).now()
    return cluster_state(sight, viewer, local_workers=services.settings.local_workers)


@router.get(
    "/v1/cluster/events",
    summary="The cluster, each second",
    response_class=Response,
    responses={200: {"description": "A `ClusterState` each second", "content": {"text/event-stream": STREAM}}},
)
async def watch_cluster(request: Request, viewer: InViewer, services: InServices) -> Response:
    """The same as server-sent events `cluster`. The gateway looks at Redis once for all who watch, and not at all while
    nobody does. While Redis is away, events go on with `redis.ok` false."""
    feed, client = feed_of(services), ClientWatch(request, services.drain_notifier.served)

    async def body() -> bytes:
        await write_events(feed, viewer, services, client.outlet(), request.headers)
        return b""

    async def nothing() -> None:
        """Has nothing to give back: the feed looks only when it is asked."""

    return EventStream(body, headers={}, closing=nothing, client=client)


async def write_events(feed: ClusterFeed, viewer: Viewer, services: Services, outlet: Outlet, headers: Headers) -> None:
    """Writes what the viewer may see, again and again until this process stops or the viewer's key is revoked."""
    local, turns = services.settings.local_workers, count(1)
    async with aclosing(feed.watch()) as sights:
        async for sight in sights:
            if services.drain_notifier.draining:
                return
            if next(turns) % LOOKS_PER_CHECK == 0 and not await _still_let_in(headers, services):
                return
            told = cluster_state(sight, viewer, local_workers=local).model_dump_json()
            outlet.write(b"event: cluster\ndata: %b\n\n" % told.encode())
            if outlet.full:
                await outlet.drained()


async def _still_let_in(headers: Headers, services: Services) -> bool:
    try:
        await authenticate(headers, services.keys)
    except Unauthorized:
        return False
    except Unavailable:
        return True  # only Redis knows, and it is away: nothing new is told then
    return True


@router.post(
    "/v1/workers/{worker}/{verb}",
    summary="Kill or drain a worker of this machine",
    responses=answers({"id": "worker-a", "object": "worker", "requested": "kill"}, status=202),
    status_code=202,
)
async def change_worker(
    worker: str, verb: LocalVerb, viewer: InViewer, services: InServices, operations: InOperations
) -> dict[str, str]:
    """`drain`: it finishes or hands over what runs, and ends. `kill`: as `kill -9`, to see its streams go on elsewhere.
    For admins, where the setting `local_workers` is on (as under `millstream up`)."""
    viewer.check_admin("kill or drain workers")
    found = await operations.look()
    signal_worker(worker, verb, found, allowed=services.settings.local_workers)
    return {"id": worker, "object": "worker", "requested": verb}
