"""Redis that dies, forgets, falls silent or is full, in the middle of answers."""

import asyncio
import os
import signal

import pytest

from millstream.bench.chaos.proxy import Proxy
from millstream.bench.chaos.server.truncate_aof import cut_tail
from millstream.bench.chaos.stream import StreamClient
from millstream.common.broker import keys
from tests.harness.cluster import CHAT, MODEL, PATIENCE, Cluster, StreamTasks, all_exact, body, heard_some
from tests.harness.support import wait_until


async def begin(site: Cluster, count: int = 6, tokens: int = 300) -> tuple[list[StreamClient], StreamTasks]:
    """A gateway, two workers and clients in the middle of their answers."""
    gateway, _, _ = await site.gateway(), await site.worker(), await site.worker()
    clients = [site.client(gateway, tokens) for _ in range(count)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    return clients, running


async def test_a_killed_redis_comes_back_and_nobody_noticed(site: Cluster) -> None:
    clients, running = await begin(site)
    await site.valkey.restart()
    await all_exact(clients, running)
    assert all(client.heard.connections == 1 for client in clients)
    assert all(part.alive for part in site.fleet.parts)


async def test_what_redis_lost_is_put_back(site: Cluster) -> None:
    """The append-only file ends before what clients have read: as after a power cut."""
    clients, running = await begin(site)
    for client in clients:
        await heard_some(client, 30)
    await site.valkey.kill()
    assert cut_tail(site.data, 30_000) > 0
    await site.valkey.restart()
    await all_exact(clients, running)


async def test_even_what_redis_forgot_wholly_goes_on(site: Cluster) -> None:
    """Every job is submitted again with what its client has."""
    clients, running = await begin(site)
    await site.valkey.kill()
    cut_tail(site.data, 1 << 30)
    await site.valkey.restart()
    await all_exact(clients, running)


async def test_redis_loses_its_tail_and_a_worker_dies_as_well(site: Cluster) -> None:
    clients, running = await begin(site)
    for client in clients:
        await heard_some(client, 30)
    await site.valkey.kill()
    cut_tail(site.data, 30_000)
    await next(part for part in site.fleet.parts if part.name.startswith("worker")).kill()
    await site.valkey.restart()
    await all_exact(clients, running)


@pytest.mark.parametrize("whose", ["gateway", "worker"])
@pytest.mark.parametrize("how", ["reset", "silent", "half-open", "slow"])
async def test_connections_that_are_cut_fall_silent_or_are_slow(site: Cluster, whose: str, how: str) -> None:
    async with Proxy("127.0.0.1", site.valkey.port) as proxy:
        through = {"redis_url": proxy.url}
        gateway = await site.gateway(**(through if whose == "gateway" else {}))
        await site.worker(**(through if whose == "worker" else {}))
        clients = [site.client(gateway, 300) for _ in range(4)]
        running = [asyncio.create_task(client.run()) for client in clients]
        for client in clients:
            await heard_some(client)
        if how == "reset":
            proxy.reset()
        elif how == "half-open":
            assert proxy.half_open()
        elif how == "slow":
            proxy.delay = 0.1
        else:
            proxy.silent()
            await wait_until(lambda: stalled(clients), within=PATIENCE, what="nothing comes any more")
            proxy.passing()
        await all_exact(clients, running)


async def stalled(clients: list[StreamClient]) -> bool:
    before = [len(client.heard.arrivals) for client in clients]
    await asyncio.sleep(1.5)  # longer than the lease
    return before == [len(client.heard.arrivals) for client in clients]


async def test_lost_news_is_read_from_the_log(site: Cluster) -> None:
    clients, running = await begin(site)
    for _ in range(3):
        await site.broker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        for client in clients:
            await heard_some(client, len(client.heard.arrivals) + 10)
    await all_exact(clients, running)


@pytest.mark.parametrize("script", ["job/submit", "job/claim", "job/step", "worker/beat"])
async def test_a_reply_lost_after_the_script_ran_changes_nothing(site: Cluster, script: str) -> None:
    from millstream.common.broker.scripts.source import script_sha

    async with Proxy("127.0.0.1", site.valkey.port) as proxy:
        gateway = await site.gateway(**({"redis_url": proxy.url} if script == "job/submit" else {}))
        await site.worker(**({"redis_url": proxy.url} if script != "job/submit" else {}))
        await site.client(gateway, 1).run()  # the script is in the server's cache from now on
        proxy.lose_reply_to(script_sha(script).encode())
        clients = [site.client(gateway, 150) for _ in range(3)]
        running = [asyncio.create_task(client.run()) for client in clients]
        await wait_until(lambda: proxy.dropped, within=PATIENCE, what="the reply is lost")
        await all_exact(clients, running)
        assert len(await site.jobs()) == 4
        await wait_until(site.idle, within=PATIENCE, what="nobody holds anything")


@pytest.mark.parametrize("look", ["who computes", "whether it ended", "the usage"])
async def test_who_resumes_behind_the_last_chunk_gets_the_usage_though_redis_was_away(site: Cluster, look: str) -> None:
    async with Proxy("127.0.0.1", site.valkey.port) as proxy:
        gateway, _ = await site.gateway(redis_url=proxy.url), await site.worker()
        question = site.client(gateway, 2).ask.body()
        text = (await site.http.post(gateway.url + CHAT, json=question)).text
        *_, finish, usage, done, rest = text.split("\n\n")
        assert '"finish_reason":"length"' in finish and '"usage":{' in usage and not rest
        place = finish.split("\n")[0].removeprefix("id: ")
        last = int(place.rpartition(":")[2])
        read_from = {"who computes": 1, "whether it ended": last - 2, "the usage": last - 1}
        proxy.lose_reply_to(f"\r\n0-{read_from[look]}\r\n".encode())
        resumed = await site.http.post(gateway.url + CHAT, json=question, headers={"Last-Event-ID": place})
        assert resumed.text == f"{usage}\n\n{done}\n\n" and proxy.dropped == 1


async def test_a_job_whose_submission_was_answered_late_is_submitted_again_if_redis_forgets_it(site: Cluster) -> None:
    from millstream.common.broker.scripts.source import script_sha

    async with Proxy("127.0.0.1", site.valkey.port) as proxy:
        gateway, _ = await site.gateway(redis_url=proxy.url), await site.worker()
        await site.client(gateway, 1).run()  # the script is in the server's cache from now on
        proxy.lose_reply_to(script_sha("job/submit").encode())
        client = site.client(gateway, 300)
        running = asyncio.create_task(client.run())
        await heard_some(client)
        assert proxy.dropped == 1
        await site.valkey.kill()
        cut_tail(site.data, 1 << 30)
        await site.valkey.restart()
        await all_exact([client], [running])


async def test_a_full_redis_is_a_503_and_everybody_stays(site: Cluster) -> None:
    clients, running = await begin(site, count=2, tokens=400)
    await site.broker.redis.config_set("maxmemory", "1mb")
    gateway = site.fleet.parts[0]
    refused = await site.http.post(gateway.url + CHAT, json=body())
    assert refused.status_code == 503 and refused.json()["error"]["message"]
    assert "memory" in refused.json()["error"]["message"]
    await asyncio.sleep(1.5)  # longer than the lease: nobody can renew one
    await site.broker.redis.config_set("maxmemory", "0")
    await all_exact(clients, running)
    assert all(part.alive for part in site.fleet.parts)


async def test_a_redis_that_is_busy_or_changes_its_role_is_waited_for(site: Cluster) -> None:
    clients, running = await begin(site, count=4)
    redis = site.broker.redis
    await redis.config_set("busy-reply-threshold", 100)
    await redis.eval("local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 2 do end", 0)  # type: ignore[misc]
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(1.0)  # workers' blocked reads are thrown out, writes are refused
    await redis.execute_command("REPLICAOF", "NO", "ONE")
    await all_exact(clients, running)
    assert all(part.alive for part in site.fleet.parts)


@pytest.mark.parametrize("how", ["stopped", "full"])
async def test_a_redis_that_takes_no_writes_for_long_costs_no_worker_its_lease(site: Cluster, how: str) -> None:
    """Nobody could renew a lease meanwhile: that they ran out says nothing about the workers."""
    clients, running = await begin(site, count=4, tokens=1500)
    for _ in range(3):
        if how == "stopped":
            os.kill(site.valkey.pid, signal.SIGSTOP)
            await asyncio.sleep(2.0)  # twice the lease
            os.kill(site.valkey.pid, signal.SIGCONT)
        else:
            await site.broker.redis.config_set("maxmemory", "1mb")
            await asyncio.sleep(2.0)
            await site.broker.redis.config_set("maxmemory", "0")
        for client in clients:
            await heard_some(client, len(client.heard.arrivals) + 5)
    await all_exact(clients, running)
    assert [job["attempt"] for job in await site.jobs()] == ["0"] * 4


async def test_what_an_operator_does_wrong_for_a_while_ends_nobody(site: Cluster) -> None:
    """Scripts forbidden to everybody, and messages that no worker has sent."""
    clients, running = await begin(site, count=3, tokens=600)
    redis = site.broker.redis
    [gateway] = await redis.zrange(keys.gateways(MODEL), 0, -1)
    for nonsense in ("hello", '[["a", 1]]', '{"a": 1}'):
        await redis.publish(keys.frames(gateway), nonsense)
    for rule in ("-evalsha", "+evalsha", "-info", "+info"):  # the second one is refused inside the scripts
        await redis.execute_command("ACL", "SETUSER", "default", rule)
        await asyncio.sleep(2.0)  # twice the lease
    await all_exact(clients, running)
    assert all(part.alive for part in site.fleet.parts)
