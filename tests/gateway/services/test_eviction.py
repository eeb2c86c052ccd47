"""A server that may throw jobs away is named in the log when a process begins."""

from structlog.testing import capture_logs

from millstream.common.broker.connection.broker import Broker
from millstream.gateway.services.tending import warn_of_eviction


async def test_a_server_that_evicts_is_named_in_the_log(redis_url: str) -> None:
    async with Broker(redis_url) as broker:
        with capture_logs() as quiet:
            await warn_of_eviction(broker)
        await broker.redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with capture_logs() as told:
                await warn_of_eviction(broker)
        finally:
            await broker.redis.config_set("maxmemory-policy", "noeviction")
    assert quiet == []
    assert [(event["event"], event["policy"]) for event in told] == [("redis_evicts", "allkeys-lru")]
