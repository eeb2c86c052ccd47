"""A part that cannot go on ends its process: with a status that says so, and one line that says why."""

import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.common.broker import keys
from millstream.common.process.tasks import START_ANEW
from tests.harness.cluster import MODEL, PATIENCE, Cluster
from tests.harness.support import wait_until

SPOILED = "WRONGTYPE"


async def spoil(site: Cluster) -> None:
    """A key of ours that somebody has overwritten with something else, until everybody has seen it."""
    await site.broker.redis.delete(keys.deadlines(MODEL))
    await site.broker.redis.set(keys.deadlines(MODEL), "x")


async def ended(part: FleetPart) -> int:
    """Returns its exit status; its log says once why it ended."""
    status = await part.wait()
    told = part.told("cannot_go_on")
    assert len(told) == 1 and SPOILED in told[0]["error"], part.last_words()
    assert "Traceback" not in part.log.read_text()
    return status


@pytest.mark.parametrize("kind", ["gateway", "worker", "background"])
async def test_a_key_that_is_not_ours_ends_a_process_with_a_status_and_one_line(site: Cluster, kind: str) -> None:
    if kind != "worker":
        await (await site.worker()).stop()
    start = {"gateway": site.gateway, "worker": site.worker, "background": site.fleet.background}
    part = await start[kind]()
    await spoil(site)
    assert await ended(part) == START_ANEW


async def test_one_of_several_gateway_processes_ends_and_another_begins(site: Cluster) -> None:
    await (await site.worker()).stop()
    gateway = await site.gateway(processes="2")
    try:
        await spoil(site)
        await wait_until(lambda: len(gateway.told("cannot_go_on")) >= 2, within=PATIENCE, what="both have ended")
        await site.broker.redis.delete(keys.deadlines(MODEL))
        begun = "frames_subscribed"
        await wait_until(lambda: len(gateway.told(begun)) >= 3, within=PATIENCE, what="another has begun")
    finally:
        await gateway.stop()
