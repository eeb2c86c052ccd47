"""The `vllm` engine, which keeps the contract of `worker.engines.base`."""

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any, Literal

import structlog

from millstream.common.errors import BadGrammar, BadRequest, EngineError, MillstreamError, Unavailable
from millstream.common.job import Guide
from millstream.worker.engines.base import (
    EngineStats,
    LoadProgress,
    ModelCard,
    Output,
    SequenceKey,
    SequenceSpec,
    Sink,
    silent,
    unheard,
)
from millstream.worker.engines.grammar.compiling import INCOMPLETE, given_up
from millstream.worker.engines.grammar.guides import GuideCompiler, Matcher
from millstream.worker.engines.model_files.vocabulary import vocabulary_of
from millstream.worker.engines.sampling.spec_check import check_spec
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.vllm.loading import VllmModel, load
from millstream.worker.engines.vllm.process import EngineDied, VllmProcess
from millstream.worker.engines.vllm.requests import OutputReader
from millstream.worker.engines.vllm.settings import VllmSettings

log = structlog.stdlib.get_logger(part="engine")


class VllmEngine:
    """One model in vLLM's continuous batch. Every sequence is a task; what all of them read in one turn of the event
    loop goes to the sink in one call."""

    kind: Literal["tokens"] = "tokens"
    steps = True

    def __init__(self, settings: VllmSettings) -> None:
        self.settings = settings
        self.slots = settings.slots or 1
        self.guide_limits = settings.guide_limits
        self._loaded: VllmModel | None = None
        self._guides: GuideCompiler | None = None
        self._running: dict[SequenceKey, asyncio.Task[None]] = {}
        self._fresh: list[Output] = []  # read in this turn of the event loop
        self._sink: Sink | None = None
        self._broken: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None  # once it has started

    # ------------------------------------------------------------------------------------------- life
    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Starts vLLM and blocks meanwhile; its processes live as long as the calling thread. Raises
        `MillstreamError`."""
        loaded = load(self.settings, progress)
        progress("reading the vocabulary for grammars", None)
        vocabulary = vocabulary_of(loaded.tokenizer, loaded.vocabulary)
        self._guides = vocabulary and GuideCompiler(vocabulary, self.guide_limits)
        loaded.process.vocabulary = vocabulary
        self.slots = loaded.slots
        self._loaded = loaded
        return loaded.card

    def start(self, sink: Sink, changed: Callable[[], None] = unheard) -> None:
        self._sink = sink
        self.loop = asyncio.get_running_loop()
        self._process()

    def close(self) -> None:
        if self._loaded is not None:
            self._loaded.process.close()
        if self._guides is not None:
            self._guides.close()

    def _ready(self) -> VllmModel:
        if self._loaded is None:
            raise Unavailable("The engine is not loaded.")
        return self._loaded

    def _process(self) -> VllmProcess:
        return self._ready().process

    # -------------------------------------------------------------------------------------- the contract
    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        return self._ready().tokenizer

    def prepare(self, spec: SequenceSpec) -> None:
        check_spec(spec, self._ready().context_length, self._ready().vocabulary)
        layers = self.adapted_layers
        if spec.prompt_logprobs is not None and layers is not None and (not layers or "lm_head" in layers):
            raise BadRequest(  # vLLM's process would end in the middle of it
                "vLLM tells no log-probabilities of a prompt while adapters may change the model's output layer: start "
                "the worker with --engine-args lora-target-modules=LAYER.",
                param="prompt_logprobs",
            )

    async def compile(self, guide: Guide, tenant: str) -> None:
        """Compiles it here under the limits, then where it is followed."""
        await self._compiler().compile(guide, tenant)
        await self._process().compile(guide)

    def add(self, spec: SequenceSpec) -> None:
        """Raises `BadGrammar`, `ContextLengthExceeded`, `BadRequest`; `Unavailable` once broken."""
        if self.broken is not None:
            raise Unavailable(f"The engine is broken: {self.broken}")
        self.prepare(spec)
        check = self.matcher(spec.guide, spec.generated)  # what fails inside vLLM fails here once more, and is told
        self._running[spec.key] = asyncio.create_task(self._run(spec, check), name=f"sequence {spec.key}")

    def abort(self, key: SequenceKey) -> None:
        if (task := self._running.pop(key, None)) is not None:
            task.cancel()
            self._fresh = [output for output in self._fresh if output.key != key]

    def stats(self) -> EngineStats:
        if self._loaded is None:
            return EngineStats(running=0, steps=0)
        figures = self._loaded.process.figures
        return EngineStats(len(self._running), figures.steps, figures.kv_use, figures.hit_rate)

    @property
    def broken(self) -> BaseException | None:
        if self._broken is None and self._loaded is not None and self._loaded.process.dead:
            self._broken = EngineError(self._loaded.process.why_dead())
        return self._broken

    def _compiler(self) -> GuideCompiler:
        if self._guides is None:
            raise BadGrammar("This model has no fast tokenizer, so its output cannot be constrained.")
        return self._guides

    def matcher(self, guide: Guide | None, generated: Many[int] = ()) -> Matcher | None:
        """Find a guide compiled, or compile it, and stand after the tokens `generated`."""
        return None if guide is None else self._compiler().matcher(guide, generated)

    # -------------------------------------------------------------------------------------- adapters
    @property
    def model_config(self) -> Any:
        """Returns vLLM's own `ModelConfig`."""
        return self._ready().config.model_config

    @property
    def most_rank(self) -> int:
        """Returns the highest rank of an adapter that vLLM has room for."""
        lora = self._ready().config.lora_config
        return int(lora.max_lora_rank) if lora is not None else 0

    @property
    def adapted_layers(self) -> frozenset[str] | None:
        """Returns the last names of the layers that adapters may change; empty for all, None without adapters."""
        lora = self._ready().config.lora_config
        return None if lora is None else frozenset(lora.target_modules or ())

    def card_of(self, adapter: str) -> ModelCard:
        """Returns the card of the model with an adapter, by its digest."""
        return self._ready().card_with(adapter)

    def offer_adapter(self, digest: str, folder: Path) -> None:
        """Makes an adapter known, which is read before its first answer at the latest."""
        self._process().loras.offer(digest, folder)

    async def bring_adapter(self, digest: str) -> None:
        """Has vLLM read an adapter, between two steps. Raises what vLLM raises."""
        await self._process().loras.of(digest)

    async def drop_adapter(self, digest: str) -> None:
        """Has vLLM forget an adapter."""
        await self._process().loras.drop(digest)

    # ------------------------------------------------------------------------------------ a sequence
    async def _run(self, spec: SequenceSpec, check: Matcher | None) -> None:
        reading = OutputReader(spec)
        try:
            async for told in self._process().generate(spec, self.tokenizer.eos_ids):
                for output in reading.outputs(told):
                    self._say(_checked(output, spec, check))
            if spec.key in self._running:
                raise EngineError("vLLM gave this job up without saying why.")
        except EngineDied as error:
            self._broken = self.broken or error
            self._say(Output(spec.key, error=error))
        except MillstreamError as error:
            self._say(Output(spec.key, error=error))
        except Exception as error:  # a request that vLLM fails on is that job's own trouble
            log.exception("sequence_failed", sequence=spec.key)
            self._say(Output(spec.key, error=EngineError(f"The engine failed on this job: {error}")))

    def _say(self, output: Output) -> None:
        if output.key not in self._running:
            return  # aborted, or failed already
        if not self._fresh:
            asyncio.get_running_loop().call_soon(self._flush)
        self._fresh.append(output)
        if output.finish or output.error:
            del self._running[output.key]

    def _flush(self) -> None:
        fresh, self._fresh = self._fresh, []
        if fresh and self._sink is not None:
            self._sink(fresh)


def _checked(output: Output, spec: SequenceSpec, check: Matcher | None) -> Output:
    """Returns the output, or the failure of a grammar that could not be followed to its end."""
    own_stop = output.finish == "stop" and output.token in spec.sampling.stop_token_ids
    if check is None or output.token < 0 or own_stop or check.consume(output.token):
        return output
    return Output(output.key, error=given_up(check.why or INCOMPLETE, spec.guide))
