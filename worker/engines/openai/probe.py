"""Finds out what an upstream can do by asking it: its lists, then a few requests of a few tokens each."""

import asyncio
import hashlib
from dataclasses import replace
from typing import Any, cast

import httpx
import msgspec

from millstream.common.errors import BadRequest, EngineError
from millstream.common.job import EmbedInput, RerankInput
from millstream.worker.engines.base import UpstreamLost
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.computing import TEI, VECTORS, computing_body, read_computed
from millstream.worker.engines.openai.refusals import BUSY, complaint
from millstream.worker.engines.openai.replies import JsonObject
from millstream.worker.engines.openai.settings import Address

AT_ONCE = 4  # trial requests: a small server's slots
LISTING = 10.0  # seconds a list may take
HELLO: list[JsonObject] = [{"role": "user", "content": "Say hello."}]
BEGUN: list[JsonObject] = [*HELLO, {"role": "assistant", "content": "A"}]  # one token with every tokenizer
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WORDS: JsonObject = {"type": "text", "text": "Hi"}
SEEN: list[JsonObject] = [{"role": "user", "content": [WORDS, {"type": "image_url", "image_url": {"url": PIXEL}}]}]
UNSEEN: list[JsonObject] = [{"role": "user", "content": [WORDS]}]
TOOL: JsonObject = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
SCHEMA: JsonObject = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORMAT: JsonObject = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
ANY = "OpenAI server"
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "millstream": "millstream", "library": "ollama"}


def fingerprint(abilities: Abilities) -> str:
    """Returns the name of what computes: the same for two upstreams only if an answer may go on from one to the
    other."""
    words = f"{abilities.model}|{abilities.server}|{abilities.identity}"
    return "fp_" + hashlib.sha256(words.encode()).hexdigest()[:12]


async def look(client: httpx.AsyncClient, address: Address, wanted: str | None) -> Abilities:
    """Returns what an upstream tells of itself, without having it compute. Raises `BadRequest` with the remedy for what
    will not mend itself, `UpstreamLost` for one that cannot be reached now."""
    entry = await _listed(client, address, wanted)
    told = await _told(client, f"{address.root}/props")
    server = _server(entry, told)
    info = entry.get("info") or (await _told(client, f"{address.root}/info") if server == ANY else {})
    defaults = cast(JsonObject, told.get("default_generation_settings") or {})
    meta = cast(JsonObject, entry.get("meta") or {})
    lengths = [defaults.get("n_ctx"), *(entry.get(name) for name in ("max_model_len", "context_length"))]
    lengths += [entry.get("context_window"), meta.get("n_ctx_train"), info.get("max_input_length")]
    sizes = [str(meta[name]) for name in ("n_params", "n_vocab", "size") if name in meta]
    of_weights = entry.get("system_fingerprint") or entry.get("root") or info.get("model_sha")
    return Abilities(
        server=TEI if isinstance(info.get("model_type"), dict) else server,
        model=str(entry["id"]),
        identity=" ".join([str(of_weights or ""), *sizes]).strip(),
        slots=_number(told.get("total_slots")),
        context_length=next((_number(length) for length in lengths if _number(length)), 0),
        inputs=_number(info.get("max_client_batch_size")),
    )


async def probe(client: httpx.AsyncClient, address: Address, seen: Abilities) -> Abilities:
    """Returns `seen` with all else it can do. Raises as `look` does."""
    trials = Trials(client, address, seen.model)
    newer, (plain, completed) = False, await asyncio.gather(trials.chat(), trials.completion())
    if plain is None and "max_completion_tokens" in trials.complaints.get("/chat/completions", ""):
        trials.bound = "max_completion_tokens"
        plain = await trials.chat()
        newer = True
    dimensions, reranks = await asyncio.gather(trials.dimensions(seen), trials.reranks(seen))
    if plain is None and completed is None and not dimensions and not reranks:
        told = "; ".join(f"{route}: {why}" for route, why in trials.complaints.items())
        raise BadRequest(f"The upstream {address.root} answers nothing, neither chats nor completions: {told}")
    found = msgspec.structs.asdict(await _found(trials, plain)) if plain is not None else {}
    found |= {"chat": plain is not None, "completions": completed is not None, "newer_bound": newer}
    return replace(seen, dimensions=dimensions, reranks=reranks, **found)


class Found(msgspec.Struct, frozen=True):
    """The abilities that chats tell."""

    usage: bool
    seed: bool
    logprobs: bool
    tools: bool
    formats: bool
    images: bool
    goes_on: bool
    token_ids: bool
    tokenizes: bool
    reasons: bool


async def _found(trials: "Trials", plain: JsonObject) -> Found:
    seeded = {"seed": 7, "temperature": 1.0}
    changes: list[JsonObject] = [
        seeded,
        seeded,
        {"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": False},
        {"logprobs": True, "top_logprobs": 1},
        {"tools": [TOOL], "tool_choice": "auto"},
        {"response_format": FORMAT},
        {"messages": SEEN},
        {"messages": UNSEEN},
        {"return_token_ids": True},
    ]
    chats = asyncio.gather(*(trials.chat(**each) for each in changes))
    usage, words = await asyncio.gather(trials.streams_usage(), trials.tokenizes())
    first, second, begun, scored, tooled, bound, seeing, unseeing, ids = await chats
    message = _message(plain)
    return Found(
        usage=usage,
        seed=first is not None and second is not None and _message(first) == _message(second),
        logprobs=bool(_choice(scored).get("logprobs")),
        tools=tooled is not None,
        formats=str(_message(bound).get("content") or "").lstrip().startswith("{"),
        images=_prompt_tokens(seeing) > _prompt_tokens(unseeing),  # some pass over what they cannot read
        goes_on=begun is not None and _prompt_tokens(begun) == _prompt_tokens(plain) + 1 > 1,
        token_ids=bool(_choice(ids).get("token_ids")),
        tokenizes=words,
        reasons=bool(message.get("reasoning_content") or message.get("reasoning")),
    )


class Trials:
    """Requests of a few tokens. `complaints` keeps by route what refused ones were told."""

    def __init__(self, client: httpx.AsyncClient, address: Address, model: str) -> None:
        self._client = client
        self._address = address
        self._model = model
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.bound = "max_tokens"
        self.complaints: dict[str, str] = {}

    async def chat(self, **changes: Any) -> JsonObject | None:
        """Returns a whole answer, None if it was refused."""
        body = {"messages": HELLO, self.bound: 8, "temperature": 0, **changes}
        return await self._ask("/chat/completions", body)

    async def completion(self) -> JsonObject | None:
        """Returns a whole completion, None if it was refused."""
        return await self._ask("/completions", {"prompt": "Hello", "max_tokens": 1})

    async def streams_usage(self) -> bool:
        """Tells whether a stream ends with its usage when asked to."""
        body = {"messages": HELLO, self.bound: 1, "stream": True, "stream_options": {"include_usage": True}}
        async with self._turn:
            response = await self._send("/chat/completions", body)
        return response is not None and b'"prompt_tokens"' in response.content

    async def tokenizes(self) -> bool:
        """Tells whether it turns text into token ids, in vLLM's way or llama.cpp's."""
        body = {"model": self._model, "prompt": "A", "content": "A"}
        told = _object(await self._send(f"{self._address.root}/tokenize", body))
        return bool(told and told.get("tokens"))

    async def dimensions(self, seen: Abilities) -> int:
        """Returns the length of its vectors, 0 if it makes none."""
        response = await self._computed(EmbedInput(["A", "B"]), seen)
        try:
            told = VECTORS.decode(response.content).data if response is not None else []
        except (msgspec.DecodeError, UnicodeDecodeError):
            return 0
        return len(told[0].embedding) if len(told) == 2 else 0

    async def reranks(self, seen: Abilities) -> bool:
        """Tells whether it scores documents."""
        work = RerankInput("A", ["A", "B"])
        response = await self._computed(work, seen)
        try:
            return response is not None and bool(read_computed(work, seen, response.content))
        except EngineError:
            return False

    async def _computed(self, work: EmbedInput | RerankInput, seen: Abilities) -> httpx.Response | None:
        async with self._turn:
            return await self._send(*computing_body(work, seen, self._address.root))

    async def _ask(self, route: str, body: JsonObject) -> JsonObject | None:
        async with self._turn:
            told = _object(await self._send(route, body))
        return told if told is not None and isinstance(told.get("choices"), list) and told["choices"] else None

    async def _send(self, route: str, body: JsonObject) -> httpx.Response | None:
        try:
            response = await self._client.post(route, json={"model": self._model, **body})
        except httpx.TimeoutException:
            self.complaints[route] = "no answer in time"
            return None
        except httpx.HTTPError as error:
            raise unreachable(self._address, error) from error
        if response.status_code != 200:
            self.complaints[route] = f"{response.status_code} {complaint(response.content).message}"
            return None
        return response


async def _listed(client: httpx.AsyncClient, address: Address, wanted: str | None) -> JsonObject:
    """Returns the wanted model as the upstream lists it."""
    try:
        response = await client.get("/models", timeout=LISTING)
    except httpx.HTTPError as error:
        raise unreachable(address, error) from error
    if response.status_code in (401, 403):
        remedy = "give its key in MILLSTREAM_UPSTREAM_KEY or with --upstream-key-file"
        raise BadRequest(f"The upstream {address.root} refuses us ({response.status_code}): {remedy}.")
    if response.status_code in BUSY:
        raise UpstreamLost(f"{address.root} answers {response.status_code}", attempts=0)
    told = _object(response) or {}
    models = [entry for entry in cast(list[JsonObject], told.get("data") or []) if isinstance(entry.get("id"), str)]
    info = await _told(client, f"{address.root}/info") if not models else {}
    name = wanted or info.get("model_id")
    if not models and isinstance(name, str):  # a server that lists nothing; whether it has it, its first answer tells
        return {"id": name, "info": info}
    if not models:
        said = complaint(response.content).message[:100]
        raise BadRequest(f"{address.root} is no OpenAI server: /v1/models answered {response.status_code} {said!r}.")
    return _chosen(models, wanted, address)


def _chosen(models: list[JsonObject], wanted: str | None, address: Address) -> JsonObject:
    for entry in models:
        if wanted is not None and wanted in (entry["id"], str(entry["id"]).removesuffix(":latest")):
            return entry
    if wanted is None and len(models) == 1:
        return models[0]
    there = ", ".join(f"'{entry['id']}'" for entry in models[:20])
    why = f"does not serve '{wanted}'" if wanted else "serves several models: choose one with --model"
    raise BadRequest(f"The upstream {address.root} {why}. It has {there}.", param="model")


def unreachable(address: Address, error: httpx.HTTPError) -> UpstreamLost | BadRequest:
    """Returns the error of an upstream that cannot be reached: now, or at all."""
    why = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in why:
        remedy = "Give the certificate of who signed it with --upstream-ca"
        return BadRequest(f"The certificate of {address.root} is not trusted: {why}. {remedy}.")
    return UpstreamLost(f"{address.root} cannot be reached: {why}", attempts=0)


async def _told(client: httpx.AsyncClient, url: str) -> JsonObject:
    """Returns an object that not every server has, empty if this one has none."""
    try:
        return _object(await client.get(url, timeout=LISTING)) or {}
    except httpx.HTTPError:
        return {}


def _server(entry: JsonObject, told: JsonObject) -> str:
    if "build_info" in told or "total_slots" in told:
        return "llama.cpp"
    return OWNERS.get(str(entry.get("owned_by", "")), ANY)


def _object(response: httpx.Response | None) -> JsonObject | None:
    if response is None or response.status_code != 200:
        return None
    try:
        told = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return cast(JsonObject, told) if isinstance(told, dict) else None


def _choice(answer: JsonObject | None) -> JsonObject:
    return cast(JsonObject, answer["choices"][0]) if answer else {}


def _message(answer: JsonObject | None) -> JsonObject:
    return cast(JsonObject, _choice(answer).get("message") or {})


def _prompt_tokens(answer: JsonObject | None) -> int:
    return _number(cast(JsonObject, (answer or {}).get("usage") or {}).get("prompt_tokens"))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
