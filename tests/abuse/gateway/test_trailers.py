"""Bodies without an end: trailers for ever, and pieces after the body was refused."""

import asyncio
from pathlib import Path

import pytest

from millstream.common.broker.embedded import EmbeddedValkey
from tests.abuse.gateway.attacked import MODEL, scene

BODY = b'{"model":"%b","messages":[{"role":"user","content":"hi"}],"max_tokens":1}' % MODEL.encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = {
    "trailers": (b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY), b"X-Trailer: " + b"a" * 1000 + b"\r\n"),
    "one trailer": (b"%x\r\n%b\r\n0\r\nX-Trailer: " % (len(BODY), BODY), b"a" * 1000),
    "a body": (b"", b"3e8\r\n" + b" " * 1000 + b"\r\n"),
    "an extension of a chunk": (b"1;", b"a" * 1000),
}
SENT = 100 * 2**20  # bytes an attacker would like to be rid of
CONNECTIONS = 4


async def flood(url: str, begin: bytes, piece: bytes) -> int:
    """Returns how many bytes were taken until the connection ended."""
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    block, taken = piece * 64, 0
    try:
        writer.write(HEAD + begin)
        while taken < SENT:
            writer.write(block)
            await writer.drain()
            taken += len(block)
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return taken


@pytest.mark.timeout(300)
async def test_a_message_without_an_end_is_cut_off(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with scene(own_valkey, tmp_path, max_body_bytes=str(4 * 2**20)) as attacked:
        for name, (begin, piece) in PIECES.items():
            with attacked.lean():
                async with attacked.watched() as neighbour:
                    floods = [flood(attacked.gateway.url, begin, piece) for _ in range(CONNECTIONS)]
                    taken = await asyncio.gather(*floods)
                print(f"{name}: {max(taken)} bytes, neighbour {neighbour.answers} answers")
            assert max(taken) < SENT // 2, name
