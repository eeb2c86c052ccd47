"""Doctor's advice when the queue's server does not do what it is asked: by the cause, not by anybody's words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import get_args

import pytest
from redis.asyncio import Redis

from millstream.cli.inspect.diagnosis import REMEDIES, remedy_for
from millstream.common.broker.connection.broker import Broker, RedisCause, RedisTrouble
from millstream.common.broker.embedded import EmbeddedValkey, free_port
from millstream.common.broker.models.inspection import server_facts
from millstream.common.errors import Unavailable

COMMANDS: dict[RedisCause, str] = {
    "password": "CONFIG SET requirepass secret",
    "permissions": "ACL SETUSER default -info",
}
WORDS: dict[RedisCause, str] = {
    "clients": "-ERR max number of clients reached",
    "memory": "-OOM command not allowed when used memory > 'maxmemory'.",
    "not_ready": "-LOADING Valkey is loading the dataset in memory",
    "one_node": "-MOVED 3999 127.0.0.1:6381",
    "protected": "-DENIED Valkey is running in protected mode because protected mode is enabled",
}


@asynccontextmanager
async def saying(words: str) -> AsyncIterator[str]:
    """A server that says the same to whatever it is asked, as a Valkey does that is in such a state."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(words.encode() + b"\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def trouble(url: str) -> RedisTrouble:
    async with Broker(url) as broker:
        with pytest.raises(RedisTrouble) as told:
            await server_facts(broker)
    return told.value


@pytest.mark.parametrize("cause", COMMANDS)
async def test_a_server_that_is_set_so_has_its_remedy(cause: RedisCause, own_valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(own_valkey.url, single_connection_client=True) as operator:
        await operator.execute_command(*COMMANDS[cause].split())
        found = await trouble(own_valkey.url)
        await operator.execute_command(*["ACL", "SETUSER", "default", "+@all", "nopass"])
    assert (found.cause, remedy_for(found)) == (cause, REMEDIES[cause])


@pytest.mark.parametrize("cause", WORDS)
async def test_a_server_in_such_a_state_has_its_remedy(cause: RedisCause) -> None:
    async with saying(WORDS[cause]) as url:
        found = await trouble(url)
    assert (found.cause, remedy_for(found)) == (cause, REMEDIES[cause])


async def test_a_server_that_is_not_there_has_its_remedy() -> None:
    assert (await trouble(f"redis://127.0.0.1:{free_port()}")).cause == "away"
    assert (await trouble("redis://no-such-host.invalid:6379")).cause == "unknown_host"
    assert remedy_for(Unavailable("The cluster is away.")) == REMEDIES["away"]


def test_every_cause_has_a_remedy_of_its_own() -> None:
    assert set(REMEDIES) == set(get_args(RedisCause))
    assert len(set(REMEDIES.values())) == len(REMEDIES)
