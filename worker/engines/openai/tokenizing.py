"""Tokens as an upstream counts them, in vLLM's way or llama.cpp's."""

from typing import cast

import httpx

from millstream.common.chunk import Result
from millstream.common.errors import BadRequest
from millstream.common.job import TokenizeInput
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.bodies import LLAMA
from millstream.worker.engines.openai.refusals import refusal
from millstream.worker.engines.openai.replies import JsonObject
from millstream.worker.engines.openai.settings import Address


async def tokenized(client: httpx.AsyncClient, address: Address, abilities: Abilities, work: TokenizeInput) -> Result:
    """Returns ids and text. Raises `BadRequest`, `UpstreamLost`, `httpx.HTTPError`."""
    if not abilities.tokenizes:
        raise BadRequest("This model's upstream does not tell its tokens.", param="model")
    asker = Asker(client, address.root)
    if abilities.server == LLAMA:
        return await _as_llama(asker, work)
    return await _as_vllm(asker, abilities.model, work)


class Asker:
    """The routes beside OpenAI's."""

    def __init__(self, client: httpx.AsyncClient, root: str) -> None:
        self._client = client
        self._root = root

    async def ask(self, route: str, body: JsonObject) -> JsonObject:
        """Returns the answer, an object."""
        response = await self._client.post(f"{self._root}{route}", json=body)
        if response.status_code != 200:
            raise refusal(response.status_code, response.content)
        return cast(JsonObject, response.json())


async def _as_llama(asker: Asker, work: TokenizeInput) -> Result:
    if work.ids is not None:
        told = await asker.ask("/detokenize", {"tokens": work.ids})
        return Result(ids=work.ids, text=str(told["content"]))
    text = work.text or ""
    if work.messages is not None:
        rendered = await asker.ask("/apply-template", {"messages": work.messages, "tools": work.tools})
        text = str(rendered["prompt"])
    special = work.add_special_tokens and work.messages is None
    told = await asker.ask("/tokenize", {"content": text, "add_special": special, "with_pieces": True})
    tokens = cast(list[JsonObject], told["tokens"])
    return Result(ids=[int(token["id"]) for token in tokens], pieces=[_piece(token["piece"]) for token in tokens])


def _piece(piece: str | list[int]) -> str:
    """A piece that is no whole character comes as bytes."""
    return piece if isinstance(piece, str) else bytes(piece).decode("utf-8", "replace")


async def _as_vllm(asker: Asker, model: str, work: TokenizeInput) -> Result:
    if work.ids is not None:
        told = await asker.ask("/detokenize", {"model": model, "tokens": work.ids})
        return Result(ids=work.ids, text=str(told["prompt"]))
    body: JsonObject = {"model": model, "return_token_strs": True}
    if work.messages is not None:
        body |= {"messages": work.messages} | ({"tools": work.tools} if work.tools else {})
    else:
        body |= {"prompt": work.text or "", "add_special_tokens": work.add_special_tokens}
    told = await asker.ask("/tokenize", body)
    return Result(ids=cast(list[int], told["tokens"]), pieces=cast(list[str], told.get("token_strs") or []))
