"""An OpenAI server over real HTTP that answers as a script says, and dies, falls silent or talks garbage where it says
so."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from millstream.worker.engines.openai.replies import JsonObject

MODEL = "scripted"


@dataclass
class Turn:
    """One streamed answer: words `w0 w1 …`, and what goes wrong after how many of them."""

    words: int = 8
    gate_after: int | None = None  # waits there until the upstream's gate opens
    die_after: int | None = None  # the connection is reset
    end_after: int | None = None  # the answer ends without a finish reason
    silent_after: int | None = None
    raw_after: tuple[int, bytes] | None = None  # bytes put in the answer's place, and its end
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    error: JsonObject | str = field(default_factory=lambda: {"error": {"message": "scripted refusal"}})
    deltas: list[JsonObject] | None = None  # in place of words
    finish: str = "stop"
    whole: bool = False  # does not stream
    page: str = ""  # HTML in the answer's place


@dataclass
class ScriptedUpstream:
    """Answers trial requests by what it `can` do, and streams by its turns, in order; after these by `usual`."""

    owner: str = "vllm"
    can: set[str] = field(default_factory=lambda: {"goes_on", "usage", "completions", "chat", "seed"})
    key: str = ""
    models: list[JsonObject] = field(default_factory=lambda: [{"id": MODEL, "max_model_len": 4096}])
    turns: deque[Turn] = field(default_factory=deque[Turn])
    usual: Turn = field(default_factory=Turn)
    asked: list[JsonObject] = field(default_factory=list[JsonObject])  # the bodies of streams
    answered: int = 0  # whole answers given
    trials: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        self.writers.add(writer)
        try:
            while head := await _head(reader):
                body = json.loads(await reader.readexactly(int(head.get("content-length", 0))) or b"{}")
                await self._answer(head, body, Wire(writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def kill(self) -> None:
        """Resets all connections, as the end of the process would."""
        for writer in list(self.writers):
            writer.transport.abort()

    async def _answer(self, head: dict[str, str], body: JsonObject, wire: "Wire") -> None:
        if self.key and head.get("authorization") != f"Bearer {self.key}":
            await wire.json({"error": {"message": "wrong key"}}, 401)
        elif head["path"] == "/v1/models":
            await wire.json({"object": "list", "data": [{"owned_by": self.owner, **model} for model in self.models]})
        elif head["path"] not in ("/v1/chat/completions", "/v1/completions"):
            await wire.json({"error": {"message": "no such route"}}, 404)
        elif not body.get("stream") or ("max_tokens" in body and body["max_tokens"] == 1):
            await self._trial(head["path"], body, wire)
        else:
            self.asked.append(body)
            await self._turn(self.turns.popleft() if self.turns else self.usual, body, wire)

    async def _trial(self, path: str, body: JsonObject, wire: "Wire") -> None:
        """Answers a probe's question."""
        refused = {
            "chat" if path.startswith("/v1/chat") else "completions": True,
            "tools": "tools" in body,
            "images": "image_url" in json.dumps(body),
            "formats": "response_format" in body,
            "logprobs": "logprobs" in body,
            "usage": bool(body.get("stream")),
        }
        if any(asked and name not in self.can for name, asked in refused.items()):
            await wire.json({"error": {"message": "cannot do this"}}, 400)
            return
        prompt = 74 if "image_url" in json.dumps(body) and "blind" not in self.can else 10
        if body.get("messages", [{}])[-1].get("role") == "assistant":
            prompt = 11 if "goes_on" in self.can and body.get("continue_final_message") else 17
        self.trials += 1
        plain = "hello" if "seed" in self.can else f"hello {self.trials}"
        message: JsonObject = {"role": "assistant", "content": '{"a": 1' if "response_format" in body else plain}
        if "reasons" in self.can:
            message["reasoning_content"] = "hm"
        choice: JsonObject = {"index": 0, "message": message, "text": "hello", "finish_reason": "stop"}
        if "logprobs" in body:
            choice["logprobs"] = {"content": [{"token": "hello", "logprob": -0.5}]}
        await wire.json({"choices": [choice], "usage": {"prompt_tokens": prompt, "completion_tokens": 1}})

    async def _turn(self, turn: Turn, body: JsonObject, wire: "Wire") -> None:
        if turn.status != 200:
            await wire.json(turn.error, turn.status, turn.headers)
            return
        if turn.page:
            await wire.json(turn.page)
            return
        if turn.whole:
            message = {"role": "assistant", "content": " ".join(f"w{n}" for n in range(turn.words))}
            await wire.json({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}})
            return
        await wire.begin()
        if await self._words(turn, body, wire):
            made = turn.words - _begun(body)
            usage = {"prompt_tokens": 10 + _begun(body), "completion_tokens": made, "total_tokens": 10 + turn.words}
            await wire.event({"choices": [_choice(body, {}, turn.finish)]})
            await wire.event({"choices": [], "usage": usage})
            await wire.data(b"data: [DONE]\n\n")
            await wire.end()
            self.answered += 1

    async def _words(self, turn: Turn, body: JsonObject, wire: "Wire") -> bool:
        """Tells whether the answer is to be ended well."""
        if turn.deltas is not None:
            for delta in turn.deltas:
                await wire.event({"choices": [_choice(body, delta)]})
            return True
        for number in range(_begun(body), turn.words + 1):
            if not await self._fault(turn, number, wire):
                return False
            if number < turn.words:
                await wire.event({"choices": [_choice(body, {"content": f"w{number} "})]})
        return True

    async def _fault(self, turn: Turn, number: int, wire: "Wire") -> bool:
        if turn.gate_after == number:
            await self.gate.wait()
        if turn.die_after == number:
            wire.writer.transport.abort()
            return False
        if turn.end_after == number:
            await wire.end()
            return False
        if turn.raw_after is not None and turn.raw_after[0] == number:
            await wire.data(turn.raw_after[1])
            await wire.end()
            return False
        if turn.silent_after == number:
            await asyncio.Event().wait()
        return True


@dataclass
class Wire:
    """One answer being written, chunked."""

    writer: asyncio.StreamWriter

    async def json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        kind = "text/html" if isinstance(value, str) else "application/json"
        extra = "".join(f"{name}: {text}\r\n" for name, text in (headers or {}).items())
        head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def begin(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await self.data(b": a sign of life\n\n")

    async def event(self, value: JsonObject) -> None:
        await self.data(b"data: " + json.dumps({"id": "x", "object": "chunk", **value}).encode() + b"\n\n")

    async def data(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


def _begun(body: JsonObject) -> int:
    """Returns how many words the answer has already: those of the message or prompt that it goes on with."""
    if "messages" in body:
        last = body["messages"][-1]
        return str(last["content"]).count("w") if last["role"] == "assistant" else 0
    return str(body["prompt"]).count("w")


def _choice(body: JsonObject, delta: JsonObject, finish: str | None = None) -> JsonObject:
    if "messages" in body:
        return {"index": 0, "delta": delta, "finish_reason": finish}
    return {"index": 0, "text": delta.get("content", ""), "finish_reason": finish}


async def _head(reader: asyncio.StreamReader) -> dict[str, str]:
    """Returns the headers of the next request, with its `path`; empty at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return {}
    first, *lines = head.split("\r\n")
    headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines) if name}
    return {**headers, "path": first.split(" ")[1]}


@asynccontextmanager
async def open_upstream(
    upstream: ScriptedUpstream, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedUpstream]:
    """Serves until left; then it is gone, with all its connections."""
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", port, ssl=tls)
    upstream.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        upstream.kill()
        await server.wait_closed()
