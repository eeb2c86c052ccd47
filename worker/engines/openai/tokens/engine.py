"""Upstreams as a token engine: prompts are rendered here, answers are made text here, only the tokens come from there.

What was made before a death is a part of the next request's prompt: nothing is lost or repeated, whatever the answer
is. Only a grammar cannot be gone on with, because the upstream would begin it anew: such an answer is asked for again
where it can be expected to be the same, and compared."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import httpx
import structlog

from millstream.common.errors import EngineError, MillstreamError, Unavailable
from millstream.common.job import Exactness, Guide, Sampling
from millstream.common.process.folders import default_cache_dir
from millstream.worker.engines.base import (
    EngineStats,
    LoadFailed,
    LoadProgress,
    ModelCard,
    Output,
    SequenceKey,
    SequenceSpec,
    Sink,
    silent,
    unheard,
)
from millstream.worker.engines.guide_limits import GuideLimits
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.bodies import LLAMA
from millstream.worker.engines.openai.continuing import interrupted
from millstream.worker.engines.openai.pool import UpstreamPool
from millstream.worker.engines.openai.probe import unreachable
from millstream.worker.engines.openai.reading import EventReader
from millstream.worker.engines.openai.refusals import complaint
from millstream.worker.engines.openai.settings import Address, UpstreamSettings
from millstream.worker.engines.openai.tokens.llama import LlamaWire
from millstream.worker.engines.openai.tokens.vocabulary import UpstreamVocabulary, check_same, load_vocabulary
from millstream.worker.engines.openai.tokens.wires import CompletionsWire, TokenWire
from millstream.worker.engines.openai.upstream import client_of
from millstream.worker.engines.sampling.spec_check import check_spec
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer

LEVELS: dict[str, Exactness] = {"chat": "tokens", "completions": "tokens", "tools": "tokens", "formats": "restart"}

_TRIAL = Sampling(temperature=0, max_tokens=2)

log = structlog.stdlib.get_logger(part="upstream")


@dataclass(frozen=True, slots=True)
class TokenUpstreamSettings:
    """The upstreams of one model and its tokenizer: a folder, a GGUF file or a hub id."""

    upstreams: UpstreamSettings
    tokenizer: str
    cache_dir: Path = field(default_factory=default_cache_dir)  # converted samples
    chat_template: Path | None = None
    own_defaults: bool = True  # of sampling, as the tokenizer's folder says
    guide_limits: GuideLimits = field(default_factory=GuideLimits)


class UpstreamTokenEngine:
    """Implements `worker.engines.base.TokenEngine`. Every sequence is a task and a request."""

    kind: Literal["tokens"] = "tokens"
    steps = False
    broken: BaseException | None = None

    def __init__(self, settings: TokenUpstreamSettings) -> None:
        self.settings = settings
        self.guide_limits = settings.guide_limits
        self._pool = UpstreamPool(settings.upstreams)
        self._vocabulary: UpstreamVocabulary | None = None
        self._context_length = 0
        self._running: dict[SequenceKey, asyncio.Task[None]] = {}
        self._sink: Sink | None = None

    # ------------------------------------------------------------------------------------------- life

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Waits for the first upstream that answers, and has it make a token. Raises `LoadFailed` where it gives no
        token ids, or other ones than the tokenizer."""
        chosen = self.settings
        vocabulary = load_vocabulary(chosen.tokenizer, chosen.cache_dir, progress, chosen.chat_template)
        self._vocabulary = vocabulary
        return asyncio.run(self._load(vocabulary, progress))

    async def _load(self, vocabulary: UpstreamVocabulary, progress: LoadProgress) -> ModelCard:
        address, found = await self._pool.find(progress)
        if not found.generates:
            raise LoadFailed("The upstream makes vectors or scores only: leave --tokenizer out.", param="tokenizer")
        progress("compares the tokenizer", None)
        trial = SequenceSpec(SequenceKey("trial"), vocabulary.tokenizer.encode("Hello"), max_tokens=2, sampling=_TRIAL)
        async with client_of(address, self.settings.upstreams) as client:
            await check_same(client, address, found, vocabulary)
            await _check_ids(client, address, _wire_of(found, vocabulary), trial, found)
        facts = self._pool.card_facts(found)
        self._context_length = facts["context_length"]
        can_chat = bool(vocabulary.tokenizer.chat_template)
        words = f"{self._pool.fingerprint}|tokens|{vocabulary.digest}"
        return ModelCard(
            **facts,
            fingerprint="fp_" + hashlib.sha256(words.encode()).hexdigest()[:12],
            capabilities=("chat", "completions") if can_chat else ("completions",),
            defaults=vocabulary.defaults if self.settings.own_defaults else {},
            exactness=dict(LEVELS),
        )

    def start(self, sink: Sink, changed: Callable[[], None] = unheard) -> None:
        self._sink = sink
        self._pool.start(changed)

    def close(self) -> None:
        self._pool.close()

    @property
    def slots(self) -> int:
        return self._pool.slots

    def stats(self) -> EngineStats:
        return replace(self._pool.stats(), running=len(self._running))

    # -------------------------------------------------------------------------------------- the contract

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        return self._known().tokenizer

    def _known(self) -> UpstreamVocabulary:
        if self._vocabulary is None:
            raise Unavailable("The engine is not loaded.")
        return self._vocabulary

    def prepare(self, spec: SequenceSpec) -> None:
        check_spec(spec, self._context_length, self._known().size)
        _, abilities = self._pool.pick()
        _wire_of(abilities, self._known()).check(spec)

    async def compile(self, guide: Guide, tenant: str) -> None:
        """The upstream compiles it, and refuses what it cannot."""

    def add(self, spec: SequenceSpec) -> None:
        self._running[spec.key] = asyncio.create_task(self._run(spec), name=f"sequence {spec.key}")

    def abort(self, key: SequenceKey) -> None:
        if (task := self._running.pop(key, None)) is not None:
            task.cancel()

    # ------------------------------------------------------------------------------------ a sequence

    async def _run(self, spec: SequenceSpec) -> None:
        try:
            await self._ask(spec)
        except MillstreamError as error:
            self._say(Output(spec.key, error=error))
        except Exception as error:  # a request that fails is that job's own trouble
            log.exception("sequence_failed", sequence=spec.key)
            self._say(Output(spec.key, error=EngineError(f"The engine failed on this job: {error}")))

    async def _ask(self, spec: SequenceSpec) -> None:
        upstream, abilities = self._pool.pick()
        wire, seam = _wire_of(abilities, self._known()), _seam(spec)
        asked = spec if not seam else replace(spec, generated=[])
        if seam and spec.sampling.temperature > 0 and not abilities.seed:
            raise interrupted("this upstream would begin the grammar of its answer anew")
        reader = wire.reader(asked)
        async with (
            self._pool.asking(upstream, wire.route(upstream.address), wire.body(asked, abilities)) as response,
            aclosing(self._pool.events_of(response, reader)) as events,
        ):
            async for data in events:
                for output in reader.read(data):
                    self._pass(output, seam)
        last = reader.last()
        if seam:
            raise interrupted("asked again, the upstream ended its answer earlier")
        upstream.succeeded()
        if last is not None:
            self._say(last)

    def _pass(self, output: Output, seam: list[int]) -> None:
        """Says a token, unless it was delivered before. Raises `Interrupted` where the two differ."""
        if not seam:
            self._say(output)
        elif output.token != seam.pop(0):
            raise interrupted("asked again, the upstream answered something else")

    def _say(self, output: Output) -> None:
        if output.key in self._running and self._sink is not None:
            if output.finish or output.error:
                del self._running[output.key]
            self._sink([output])


async def _check_ids(
    client: httpx.AsyncClient, address: Address, wire: TokenWire, trial: SequenceSpec, abilities: Abilities
) -> None:
    """Raises `LoadFailed` for an upstream that names no tokens in its stream, `UpstreamLost` for one that is gone."""
    reader, events = wire.reader(trial), EventReader()
    try:
        response = await client.post(wire.route(address), json=wire.body(trial, abilities))
    except httpx.HTTPError as error:
        raise unreachable(address, error) from error
    try:
        told = [output for event in events.feed(response.content) for output in reader.read(event)]
    except EngineError:
        told = []
    if not told:
        said = complaint(response.content).message[:200]
        raise LoadFailed(
            f"The upstream {address.root} gives no token ids, so that --tokenizer is of no use: leave it out, and the "
            f"upstream's text is passed on. (Asked for some it answered {response.status_code}: {said})",
            param="tokenizer",
        )


def _wire_of(abilities: Abilities, vocabulary: UpstreamVocabulary) -> TokenWire:
    """Returns the way in which an upstream is asked."""
    return LlamaWire(vocabulary) if abilities.server == LLAMA else CompletionsWire(vocabulary, abilities)


def _seam(spec: SequenceSpec) -> list[int]:
    """Returns the tokens that an answer must have again, because it cannot be gone on with after them."""
    return list(spec.generated) if spec.guide is not None else []
