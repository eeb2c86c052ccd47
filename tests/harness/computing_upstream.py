"""A server of vectors and scores over real HTTP, as TEI, vLLM, llama.cpp and Millstream are asked."""

from collections import deque
from dataclasses import dataclass, field

from millstream.worker.engines.openai.replies import JsonObject
from tests.harness.scripted_upstream import ScriptedUpstream, Wire

WIDTH = 4
TEI_INFO: JsonObject = {
    "model_id": "BAAI/bge-small-en-v1.5",
    "model_sha": "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
    "model_dtype": "float16",
    "model_type": {"embedding": {"pooling": "cls"}},
    "max_concurrent_requests": 512,
    "max_input_length": 512,
    "max_batch_tokens": 16384,
    "max_client_batch_size": 2,
    "version": "1.8.2",
}


@dataclass
class Mishap:
    """One answer that is not what was asked for."""

    status: int = 200
    body: object = None  # in place of the answer
    headers: dict[str, str] = field(default_factory=dict[str, str])
    dies: bool = False  # the connection is reset in the middle of the answer
    changes: JsonObject = field(default_factory=dict[str, object])  # of the answer's own fields


@dataclass
class ComputingUpstream(ScriptedUpstream):
    """The vector of a text is its length, then ones. It takes `dimensions` where it `can` "shorten"; a `tei` has its
    `/info`, lists no models, and takes few inputs at once."""

    can: set[str] = field(default_factory=lambda: {"embeddings", "rerank"})
    tei: bool = False
    mishaps: deque[Mishap] = field(default_factory=deque[Mishap])
    computed: list[JsonObject] = field(default_factory=list[JsonObject])  # bodies, but for the trials

    async def _answer(self, head: dict[str, str], body: JsonObject, wire: Wire) -> None:
        route = head["path"]
        if self.tei and route == "/info":
            await wire.json(TEI_INFO)
        elif route == "/v1/embeddings" and "embeddings" in self.can:
            await self._computed(body, self._vectors(body), body["input"] == ["A", "B"], wire)
        elif route == ("/rerank" if self.tei else "/v1/rerank") and "rerank" in self.can:
            await self._computed(body, self._scores(body), body["query"] == "A", wire)
        else:
            await super()._answer(head, body, wire)

    async def _computed(self, body: JsonObject, answer: object, trial: bool, wire: Wire) -> None:
        if not trial:
            self.computed.append(body)
        mishap = self.mishaps.popleft() if self.mishaps and not trial else Mishap()
        if mishap.dies:
            wire.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{")
            await wire.writer.drain()
            wire.writer.transport.abort()
            return
        told = mishap.body if mishap.body is not None else answer
        told = {**told, **mishap.changes} if isinstance(told, dict) else told
        await wire.json(told, mishap.status, {"x-compute-tokens": "7", **mishap.headers})

    def _vectors(self, body: JsonObject) -> JsonObject:
        width = body.get("dimensions", WIDTH) if "shorten" in self.can else WIDTH
        vectors = [[float(len(each)), *[1.0] * (width - 1)] for each in body["input"]]
        data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        return {"data": data[::-1], "usage": {"prompt_tokens": 3 * len(data), "total_tokens": 3 * len(data)}}

    def _scores(self, body: JsonObject) -> object:
        """The longest document is the best, and comes first."""
        texts = body["texts" if self.tei else "documents"]
        name = "score" if self.tei else "relevance_score"
        found = sorted(({"index": at, name: len(text) / 10} for at, text in enumerate(texts)), key=lambda it: -it[name])
        return found if self.tei else {"results": found, "usage": {"total_tokens": 5}}
