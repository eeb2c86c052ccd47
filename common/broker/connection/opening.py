"""The way to Redis that a process's settings describe."""

from millstream.common.broker.connection.broker import COMMAND_TIMEOUT, Broker
from millstream.common.settings import ClusterSettings


def open_broker(settings: ClusterSettings, timeout: float = COMMAND_TIMEOUT) -> Broker:
    """Returns the way to home and to the servers of single models. It connects at its first command."""
    return Broker(settings.redis_url, timeout, model_redis=settings.model_redis)
