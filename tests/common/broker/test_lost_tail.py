"""Redis lost its tail, and a job was cut into other chunks since: what the client has been given is the truth."""

import pytest

from millstream.common.broker import workers
from millstream.common.broker.connection.broker import Broker
from millstream.common.job import GatewayId, JobId, WorkerId
from tests.common.broker.accounts import check_accounts, check_jobs, check_readers, look
from tests.common.broker.test_state_machine import restore, snapshot
from tests.common.broker.world import MAX_ATTEMPTS, MODEL, Held, Reader, WorkerMind, World

JOB = JobId("j1")


@pytest.fixture
async def world(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose first chunk is safe; three more were read by its client and are then lost."""
    monkeypatch.setattr(workers, "GRACE_MS", 0)  # the order of events is the test's to choose
    made = World(broker)
    mind = await worker(made, "w1")
    await made.submit(JOB, GatewayId("g1"), "acme", "default", "")
    await made.claim(mind, 1, reply_lost=False)
    await write(made, mind, 1)
    past = await snapshot(broker)
    await write(made, mind, 1, 2, 1)
    await made.read(made.readers[0])
    await restore(broker, past)
    made.readers[0].follower.lost()
    return made


async def worker(world: World, name: str) -> WorkerMind:
    mind = world.minds.setdefault(WorkerId(name), WorkerMind(WorkerId(name)))
    await world.beat(mind)
    return mind


async def write(world: World, mind: WorkerMind, *sizes: int, end: bool = False) -> None:
    for held in mind.holds.values():
        held.write(sizes, end)
    await world.step(mind, reply_lost=False)


async def all_in_order(world: World) -> Reader:
    now = await look(world)
    check_jobs(now)
    check_accounts(now)
    check_readers(world)
    return world.readers[0]


async def finish_on(world: World, mind: WorkerMind) -> list[int]:
    """Let a worker do the rest; what the client was given in the end."""
    await world.claim(mind, 1, reply_lost=False)
    await write(world, mind, 2, end=True)
    await world.read(world.readers[0])
    reader = await all_in_order(world)
    assert reader.follower.done
    return reader.tokens


async def test_its_worker_still_has_them_and_sends_them_again(world: World) -> None:
    mind = await worker(world, "w1")
    await write(world, mind, 3)  # lagging: the log ends before what the worker has had confirmed
    await write(world, mind)
    await world.read(world.readers[0])
    assert (await all_in_order(world)).tokens == list(range(8))


async def test_the_gateway_puts_them_back_before_the_next_worker_goes_on(world: World) -> None:
    await workers.evict_now(world.broker, MODEL, WorkerId("w1"), MAX_ATTEMPTS)
    await world.read(world.readers[0])
    heir = await worker(world, "w2")
    assert await finish_on(world, heir) == list(range(7))


async def test_a_gateway_that_comes_late_fences_who_went_on_without_them(world: World) -> None:
    await workers.evict_now(world.broker, MODEL, WorkerId("w1"), MAX_ATTEMPTS)
    heir = await worker(world, "w2")
    await world.claim(heir, 1, reply_lost=False)
    await write(world, heir, 3, 3, 3)  # the same tokens and more, but in other chunks
    await world.read(world.readers[0])
    assert (await all_in_order(world)).tokens == list(range(5))
    await write(world, heir, 1)
    assert heir.holds == {}, "it was fenced"
    assert await finish_on(world, heir) == list(range(7))


async def test_a_worker_that_had_ended_the_job_starts_it_under_a_new_lease(world: World) -> None:
    mind = world.minds[WorkerId("w1")]
    forgotten: Held = mind.holds.pop(JOB)
    await world.beat(mind)
    assert mind.holds[JOB].job.lease != forgotten.job.lease
    await write(world, mind, 3)
    await world.read(world.readers[0])
    await write(world, mind, 3)
    assert mind.holds == {}, "what it made since is in other chunks: it was fenced"
    assert await finish_on(world, mind) == list(range(7))


async def test_frames_of_a_log_that_went_another_way_are_not_delivered(world: World) -> None:
    await workers.evict_now(world.broker, MODEL, WorkerId("w1"), MAX_ATTEMPTS)
    heir = await worker(world, "w2")
    await world.claim(heir, 1, reply_lost=False)
    await write(world, heir, 3, 3, 3, 3)
    while world.late:
        world.deliver(0)  # before the gateway has found its place again
    assert (await all_in_order(world)).tokens == list(range(5))
    await world.read(world.readers[0])
    assert await finish_on(world, heir) == list(range(7))


async def test_a_gateway_whose_connection_held_learns_it_from_the_watchdog(world: World) -> None:
    """Another node of a cluster took over: the subscription, at a third one, was not even cut."""
    world.readers[0].follower.unsure = False
    await workers.evict_now(world.broker, MODEL, WorkerId("w1"), MAX_ATTEMPTS)
    await world.read(world.readers[0])
    heir = await worker(world, "w2")
    assert await finish_on(world, heir) == list(range(7))
