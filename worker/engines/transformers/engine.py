"""The `transformers` engine, which keeps the contract of `worker.engines.base`."""

import asyncio
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel

from millstream.common.errors import BadGrammar, BadRequest, EngineError, Unavailable
from millstream.common.job import Guide
from millstream.worker.engines.base import (
    EngineStats,
    LoadProgress,
    ModelCard,
    Output,
    RawLogprob,
    SequenceKey,
    SequenceSpec,
    Sink,
    always,
    silent,
    unheard,
)
from millstream.worker.engines.grammar.guides import GuideCompiler, Matcher
from millstream.worker.engines.model_files.generation_defaults import generation_defaults
from millstream.worker.engines.model_files.vocabulary import guide_compiler
from millstream.worker.engines.sampling.sequence import Sequence, begin
from millstream.worker.engines.sampling.spec_check import check_spec
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.transformers.batching import PLAIN, BatchLoop
from millstream.worker.engines.transformers.fingerprint import fingerprint, is_exact
from millstream.worker.engines.transformers.forward.loop import ForwardLoop
from millstream.worker.engines.transformers.forward.plan import forward_loop
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS, explained
from millstream.worker.engines.transformers.loading.kinds import ModelKind
from millstream.worker.engines.transformers.loading.load import Loaded, load
from millstream.worker.engines.transformers.loading.packing import about_processor
from millstream.worker.engines.transformers.loading.support import NotBatched
from millstream.worker.engines.transformers.lora.loaded import LoadedAdapters
from millstream.worker.engines.transformers.memory_plan import plan_memory
from millstream.worker.engines.transformers.scoring import score_prompt
from millstream.worker.engines.transformers.self_check import try_out
from millstream.worker.engines.transformers.settings import EngineSettings

ENGINE = "transformers"


def _way_of(loaded: Loaded) -> dict[str, str]:
    """Returns how the model is run, for its card."""
    way = {"attention": loaded.attention}
    if loaded.ranks is not None:
        way["tensor_parallel"] = str(loaded.ranks.size)
    return way if loaded.unbatched is None else way | {"batching": "no", "unbatched": loaded.unbatched}


class TransformersEngine:
    """One language model. All its sequences run in one continuous batch on a thread of its own or, where its
    architecture cannot be batched, one after the other in plain forward passes."""

    kind: Literal["tokens"] = "tokens"
    steps = True

    def __init__(self, settings: EngineSettings, does: ModelKind = "causal") -> None:
        self.settings = settings
        self._does = does
        self.slots = settings.slots or 16
        self.guide_limits = settings.guide_limits
        self._loaded: Loaded | None = None
        self._batch: BatchLoop | ForwardLoop | None = None
        self._guides: GuideCompiler | None = None
        self.adapters: LoadedAdapters | None = None
        self._running: dict[SequenceKey, Sequence] = {}  # touched on the event loop alone
        self._sink: Sink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broken: BaseException | None = None
        self._prompt_tokens = 0
        self._cached_tokens = 0

    # ------------------------------------------------------------------------------------------- life
    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Loads the model and blocks meanwhile; `progress(stage, fraction or None)` is called on this thread. Raises
        `MillstreamError`."""
        loaded = load(self.settings, progress, encodes=self._does == "seq2seq")
        progress("reading the vocabulary for grammars", None)  # here, because it would hold the event loop up later
        self._guides = guide_compiler(loaded.tokenizer, loaded.vocabulary, self.guide_limits)
        progress("making room for the cache", None)
        self._loaded = loaded
        try:
            with explained(self.settings.source.model, loaded.model.device):
                self._loaded, self._batch = self._loop_of(loaded)
        except BaseException:
            self.close()
            raise
        return self._card(self._loaded)

    def _loop_of(self, loaded: Loaded) -> tuple[Loaded, BatchLoop | ForwardLoop]:
        """Returns the batch's loop if the model's sequences can be run together, else the other."""
        plain = loaded.attention
        self.adapters = LoadedAdapters(loaded.model) if self.settings.adapters else None
        rows = self.adapters and self.adapters.rows
        if loaded.unbatched is None:
            room = plan_memory(self.settings, loaded)
            batch = BatchLoop(loaded.model, room, self._from_step, self._on_broken, rows, loaded.ranks)
            try:
                batch.prepare()
                try_out(batch, loaded)
            except NotBatched as error:
                if self.settings.batching == "on" or loaded.ranks is not None:
                    raise
                loaded = replace(loaded, unbatched=error.why)
                cast(Any, loaded.model).set_attn_implementation(PLAIN.get(plain, plain))
            else:
                self.slots = room.slots
                return loaded, batch
        loop = forward_loop(loaded, self.settings.slots, self._from_step, self._on_broken, rows)
        self.slots = loop.slots
        return loaded, loop

    def _card(self, loaded: Loaded, adapter: str | None = None) -> ModelCard:
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        device, source = loaded.model.device, self.settings.source.model
        details = {"dtype": dtype, "device": str(device), "revision": loaded.revision, "model": source}
        if self.settings.quantization:
            details["quantization"] = self.settings.quantization
        own = getattr(loaded.model, "generation_config", None) if self.settings.generation_config == "auto" else None
        defaults = generation_defaults(own.to_diff_dict() if own is not None else {})
        return ModelCard(
            name=loaded.name,
            engine=ENGINE,
            context_length=loaded.context_length,
            fingerprint=fingerprint(loaded, self.settings, defaults, adapter),
            defaults=defaults,
            exactness=always("exact" if is_exact(loaded) else "tokens"),
            capabilities=("completions",) if loaded.encodes else ("chat", "completions"),
            details=details | _way_of(loaded) | about_processor(loaded.model, device),
        )

    def card_of(self, adapter: str) -> ModelCard:
        """Returns the card of the model with an adapter, by its digest."""
        assert self._loaded is not None
        return self._card(self._loaded, adapter)

    def between_steps(self, work: Iterator[None]) -> None:
        """Has the thread that runs the model do `work`, one piece between two steps; an error of it ends the engine."""
        self._ready().score(work)

    @property
    def device(self) -> torch.device:
        return self._model.device

    @property
    def dtype(self) -> torch.dtype:
        return self._model.dtype

    @property
    def _model(self) -> PreTrainedModel:
        if self._loaded is None:
            raise Unavailable("The engine is not loaded.")
        return self._loaded.model

    def start(self, sink: Sink, changed: Callable[[], None] = unheard) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._ready().start()
        if self._loaded is not None and self._loaded.ranks is not None:
            self._loaded.ranks.listen(self._on_broken)

    def close(self) -> None:
        if self._batch is not None:
            self._batch.halt()
            self._batch = None
        if self._loaded is not None and self._loaded.ranks is not None:
            self._loaded.ranks.close()
        if self._guides is not None:
            self._guides.close()

    def _ready(self) -> BatchLoop | ForwardLoop:
        if self._batch is None:
            raise Unavailable("The engine is not loaded.")
        return self._batch

    # -------------------------------------------------------------------------------------- the contract
    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        if self._loaded is None:
            raise Unavailable("The engine is not loaded.")
        return self._loaded.tokenizer

    def prepare(self, spec: SequenceSpec) -> None:
        self._check(spec)

    async def compile(self, guide: Guide, tenant: str) -> None:
        await self._compiler().compile(guide, tenant)

    def add(self, spec: SequenceSpec) -> None:
        """Raises `BadGrammar`, `ContextLengthExceeded`, `BadRequest`; `Unavailable` once broken."""
        batch = self._ready()
        if self._broken is not None:
            raise Unavailable(f"The engine is broken: {self._broken}")
        self._check(spec)
        sequence = begin(spec, self.tokenizer.eos_ids, self.matcher(spec.guide, spec.generated))
        self._running[spec.key] = sequence
        self._prompt_tokens += len(spec.prompt)
        if spec.prompt_logprobs is not None and not spec.generated:
            batch.score(self._scoring(sequence, spec.prompt_logprobs))
        else:
            batch.enqueue(sequence)

    def abort(self, key: SequenceKey) -> None:
        if self._running.pop(key, None) is not None and self._batch is not None:
            self._batch.cancel_request(key)

    def stats(self) -> EngineStats:
        batch = self._batch
        seen = self._prompt_tokens
        return EngineStats(
            running=len(self._running),
            steps=batch.steps if batch else 0,
            kv_use=batch.kv_use() if batch else 0.0,
            prefix_hit_rate=self._cached_tokens / seen if seen else 0.0,
        )

    @property
    def broken(self) -> BaseException | None:
        return self._broken

    def matcher(self, guide: Guide | None, generated: Many[int] = ()) -> Matcher | None:
        """Find a guide compiled, or compile it, and stand after the tokens `generated`."""
        return None if guide is None else self._compiler().matcher(guide, generated)

    def _compiler(self) -> GuideCompiler:
        if self._guides is None:
            raise BadGrammar("This model has no fast tokenizer, so its output cannot be constrained.")
        return self._guides

    def _check(self, spec: SequenceSpec) -> None:
        assert self._loaded is not None
        if self._loaded.encodes and spec.prompt_logprobs is not None:
            raise BadRequest("This model encodes its prompt: there are no log-probabilities of it.", param="logprobs")
        check_spec(spec, self._loaded.context_length, self._loaded.vocabulary)

    def _scoring(self, sequence: Sequence, wanted: int) -> Iterator[None]:
        assert self._loaded is not None

        def alive() -> bool:
            return sequence.key in self._running

        def done(told: list[RawLogprob]) -> None:  # on the generation thread
            sequence.prompt_logprobs = told
            if sequence.spec.max_tokens > 0:
                self._ready().enqueue(sequence)
            else:
                self._post([Output(sequence.key, finish="length", prompt_logprobs=told)])

        try:
            whole = self._loaded.unbatched is not None or self._loaded.ranks is not None
            work = score_prompt(self._loaded.model, sequence.spec.prompt, wanted, alive, done, whole=whole)
            yield from work if self.adapters is None else self.adapters.rows.working(sequence.spec.adapter, work)
        except MODEL_ERRORS as error:  # this job's own trouble
            self._post([Output(sequence.key, error=EngineError(f"Scoring the prompt failed: {error}"))])

    # ----------------------------------------------------------------------------- from the generation thread
    def _from_step(self, sequences: list[Sequence]) -> None:
        self._post([sequence.output() for sequence in sequences])

    def _on_broken(self, error: BaseException) -> None:
        self._broken = error
        self._post([])

    def _post(self, outputs: list[Output]) -> None:
        if self._loop is None or (self._batch is not None and self._batch.closing):
            return
        try:
            self._loop.call_soon_threadsafe(self._receive, outputs)
        except RuntimeError:
            pass  # the event loop is gone: nobody listens any more

    # ------------------------------------------------------------------------------------ on the event loop
    def _receive(self, outputs: list[Output]) -> None:
        live = [o for o in outputs if o.key in self._running]  # an aborted sequence says nothing more
        for o in live:
            self._cached_tokens += o.cached
            if o.finish or o.error:
                del self._running[o.key]
        if self._broken is not None:
            live += [Output(key, error=self._loss()) for key in self._running]
            self._running.clear()
        if live and self._sink is not None:
            self._sink(live)

    def _loss(self) -> EngineError:
        return EngineError(f"The engine broke: {self._broken}")
