# redis-py leaves its cluster's client partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""A cluster's nodes: which of them holds a key, and a line to each."""

from typing import Any, cast

from redis import exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster

from millstream.common.broker.connection.pipeline import ScriptPipeline

ELSEWHERE = (exceptions.AskError, exceptions.TryAgainError, exceptions.ClusterDownError, exceptions.SlotNotCoveredError)


class ClusterClient(RedisCluster):
    """Never forgets the nodes of its URL. redis-py does, each one that failed, and after the last of them for good."""

    def __init__(self, hosts: list[tuple[str, int]], **options: Any) -> None:
        super().__init__(startup_nodes=[ClusterNode(host, port) for host, port in hosts], **options)
        self._seeds = list(self.nodes_manager.startup_nodes.values())

    async def initialize(self) -> "ClusterClient":
        for node in self._seeds:
            self.nodes_manager.startup_nodes.setdefault(node.name, node)
        await super().initialize()
        return self


class ClusterPipeline:
    """A pipeline like `ScriptPipeline`, to the node that holds the key."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._lines: dict[str, ScriptPipeline] = {}

    async def call(self, key: str, *command: Any) -> Any:
        """Calls a command. One whose slot has moved was not done: redis-py's client says it again, and learns where to.
        When a node is lost the map is read anew."""
        await self._client.initialize()
        try:
            node = cast(ClusterNode, self._client.get_node_from_key(key))
            if node.name not in self._lines:
                self._lines[node.name] = ScriptPipeline(lambda: node.connection_class(**node.connection_kwargs))
            return await self._lines[node.name].call(key, *command)
        except ELSEWHERE:
            return await self._client.execute_command(*command)
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
            await self._client.aclose()
            raise

    async def aclose(self) -> None:
        for line in self._lines.values():
            await line.aclose()
