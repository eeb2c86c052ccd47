"""The loop that steps the batch: transformers' continuous batching, bent to our contract.

**The only file that knows the library's internals**, with `overlap.py`, `prefix_salt.py` and `logits_hook.py`;
`tests/worker/engines/exactness/test_batching_internals.py` fails loudly when they move. What is changed: a request is
one of our sequences and decides itself when it ends; the outputs of a step go out together, newest tokens only (the
library copies all tokens so far, for every token); tokens are chosen by our sampler after the forward pass, outside
any captured graph; prompt scoring runs between the steps.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false, reportPrivateUsage=false
# pyright: reportIncompatibleMethodOverride=false
# (transformers publishes partly unknown types, and this file uses its internals on purpose)

import threading
from collections.abc import Callable, Generator, Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching.continuous_api import (
    ContinuousBatchProcessor,
    OutputRouter,
)
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus
from transformers.generation.continuous_batching.utils import stream_context

from millstream.common.errors import EngineError
from millstream.worker.engines.sampling.sampler import Sampler, needed
from millstream.worker.engines.sampling.sequence import Sequence
from millstream.worker.engines.transformers.loading.attention import (
    CPU_ATTENTION,
    LayerCache,
    Paged,
    Span,
    layer_views,
    plan_attention,
)
from millstream.worker.engines.transformers.loading.device import without_autograd
from millstream.worker.engines.transformers.loading.gpu_attention import GPU_ATTENTION, Tables, plan_graphs
from millstream.worker.engines.transformers.logits_hook import LogitsHook
from millstream.worker.engines.transformers.lora.rows import CurrentRows
from millstream.worker.engines.transformers.memory_plan import MemoryPlan
from millstream.worker.engines.transformers.overlap import OverlappedLoop, inputs
from millstream.worker.engines.transformers.prefix_salt import salt_prefixes, salt_tokens
from millstream.worker.engines.transformers.ranks.leader import Ranks

Deliver = Callable[[list[Sequence]], None]
Broken = Callable[[BaseException], None]


class _Request(RequestState):
    """The library's view of one of our sequences."""

    sequence: Sequence
    salt: Many[int]

    @classmethod
    def of(cls, sequence: Sequence) -> "_Request":
        tokens = sequence.spec.prompt + sequence.tokens
        request = cls(request_id=sequence.key, initial_tokens=tokens, streaming=True, max_new_tokens=None)
        request.sequence = sequence
        request.salt = salt_tokens(sequence.spec.cache_salt, sequence.spec.adapter)
        return request

    def update_and_check_completion(self, token_id: int, logprob: float | None) -> bool:
        self.sequence.take(token_id)
        self.generated_tokens.append(token_id)
        self.tokens_to_process = [token_id]
        if self.sequence.over:
            self.status = RequestStatus.FINISHED
        return self.sequence.over

    def to_generation_output(self) -> Any:
        return self  # the router below reads the newest token from the sequence itself

    def create_equivalent_initial_request(self) -> "_Request":
        """Returns the sequence to the waiting ones with its tokens so far, because the cache was full. A token in
        flight is dropped, and drawn again."""
        self.sequence.ahead = 0
        return _Request.of(self.sequence)


class _Router(OutputRouter):
    """Hands a step's sequences over in one call."""

    def __init__(self, deliver: Deliver) -> None:
        super().__init__()
        self._deliver = deliver

    def deliver_batch(self, outputs: list[Any]) -> None:
        self._deliver([request.sequence for request in outputs])

    def deliver(self, output: Any) -> None:
        """Delivers a failure; the library brings failures alone here, one by one."""
        sequence: Sequence = output.sequence
        sequence.error = sequence.error or EngineError(f"The engine failed on this job: {output.error}")
        self._deliver([sequence])


# Outside the batch, attention that only knows the paged cache gives way to its plain counterpart.
PLAIN = {"paged|eager": "eager", GPU_ATTENTION: "sdpa"}
_NO_MASK = torch.empty(1, 1, 1, 1)  # four dimensions: the model takes it for prepared and builds none


def _reading_nothing(num_q_tokens: int, max_kv_read: int, use_decode_fast_path: bool) -> tuple[int, int]:
    return num_q_tokens, 0


def _without_sampling(own: Any) -> GenerationConfig:
    """Returns the model's special tokens alone: sampling is ours, and the library would make processors of its own."""
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(own, name, None) for name in kept})


class BatchLoop(OverlappedLoop):
    """The running batch. `deliver` and `broken` are called on its own thread. Layers with adapters learn from `rows`
    whose rows they compute."""

    def __init__(
        self,
        model: PreTrainedModel,
        room: MemoryPlan,
        deliver: Deliver,
        broken: Broken,
        rows: CurrentRows | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        vocabulary: int = model.config.get_text_config().vocab_size
        self._logits_hook = LogitsHook(room.slots, vocabulary, model.device)
        self._tell_broken, self._rows, self._ranks = broken, rows, ranks
        self._sampler = Sampler(vocabulary, model.device)
        self._scoring: list[Iterator[None]] = []
        self._scoring_lock = threading.Lock()
        self.steps, self.closing = 0, False
        super().__init__(cast(Any, model), _without_sampling(model.generation_config), room.config())
        plan_graphs(self.continuous_batching_config, model.config._attn_implementation, room.context)
        if rows is not None or ranks is not None:  # a graph knows no adapter that comes later, and tells no other rank
            self.continuous_batching_config.use_cuda_graph = (False, False)
        if ranks is not None:
            self.continuous_batching_config.use_async_batching = False
        self._layers: dict[int, LayerCache] | None = None
        self.logit_processor = self._logits_hook
        self.output_router = _Router(deliver)

    def switch_to_cb_friendly_attn(self, model: Any, auto_switch_to_flash: bool = True) -> None:
        """Does nothing: `loading` has chosen the attention already; our CPU attention is unknown to the library's
        list."""
        if not model.config._attn_implementation.startswith("millstream"):
            super().switch_to_cb_friendly_attn(model, auto_switch_to_flash)

    def prepare(self) -> None:
        """Allocate the cache and capture graphs. Raises MemoryError with the needed and the free bytes."""
        if self.model.device.type == "cuda":
            torch.cuda.set_device(self.model.device)  # of this thread
        self.warmup()

    @torch.no_grad()
    def try_out(self, sequence: Sequence) -> torch.Tensor:
        """Runs one sequence to its end, before `start`, and returns the logits its last token was chosen by,
        `[vocabulary]`."""
        processor = self._create_batch_processor()
        self.input_queue.put(_Request.of(sequence))
        while not sequence.over and processor.prepare_next_batch():
            self._generation_step()
            self._land(processor)
        return self._logits_hook.logits[0].float()

    @contextmanager
    def own_attention(self) -> Generator[None]:
        """Gives a forward pass outside the batch an attention of its own."""
        paged = self.model.config._attn_implementation
        if paged in PLAIN:
            self.model.set_attn_implementation(PLAIN[paged])
        try:
            yield
        finally:
            if paged in PLAIN:
                self.model.set_attn_implementation(paged)

    def start(self) -> None:
        """Starts as the library does, but on a thread that does not keep a dying process alive."""
        self.background_thread_status.clear()
        thread = threading.Thread(target=self._run_generation_loop, name="millstream-engine", daemon=True)
        self._generation_thread = thread
        thread.start()

    def enqueue(self, sequence: Sequence) -> None:
        self.input_queue.put(_Request.of(sequence))
        self._wake_up_loop.set()

    def score(self, work: Iterator[None]) -> None:
        """Run `work` on the loop's thread, one piece between two steps."""
        with self._scoring_lock:
            self._scoring.append(work)
        self._wake_up_loop.set()

    def halt(self) -> None:
        """Stop at once; what still runs is dropped without a word."""
        self.closing = True
        self._wake_up_loop.set()
        if self.is_running():
            self.stop(block=True, timeout=30, hard_stop=True)

    def kv_use(self) -> float:
        """Returns the share of the cache that live sequences or kept prefixes occupy, 0 to 1."""
        processor = self.batch_processor
        return 0.0 if processor is None else 1.0 - float(processor.cache.compute_free_capacity())

    # ------------------------------------------------------------------------------ on the loop's own thread
    def _generation_loop_body(self, batch_processor: ContinuousBatchProcessor, bootstrapping: bool) -> bool:
        with self._scoring_lock:
            work = self._scoring[0] if self._scoring else None
        if work is not None and self._scored(work):
            with self._scoring_lock:
                self._scoring.pop(0)
        if self._scoring:
            self._wake_up_loop.set()  # more to do: do not wait for requests
        if not batch_processor.use_async_batching:
            return super()._generation_loop_body(batch_processor, bootstrapping)
        if bootstrapping:
            return False
        return self._overlapped(batch_processor, lambda: any(s.follows_its_tokens for s in self._logits_hook.batch))

    @torch.no_grad()
    def _scored(self, work: Iterator[None]) -> bool:
        """Does one piece of scoring and tells whether it was the last. It counts as a step: the engine is not hung."""
        self.steps += 1
        with self.own_attention():
            return next(work, self) is self

    @torch.no_grad()
    def _generation_step(self) -> None:
        processor: Any = self.batch_processor
        ios = processor.inputs_and_outputs
        data: Any = ios.get_model_kwargs(use_padding=processor.model_runner.pad_inputs)
        if self._layers is not None:
            data["attention_mask"] = _NO_MASK
            data["paged"] = self._plan(processor.cache, data["write_index"][0])
        if ios.compute_stream is not None:  # the inputs were copied on the current stream, which nothing else waits for
            ios.compute_stream.wait_stream(torch.accelerator.current_stream())
        with self._logits_hook.rows_in(self._rows, ios.compute_stream), without_autograd(self.model.device):
            processor.model_runner.compute_batch(self.model, data)
        batch = self._logits_hook.batch
        if batch and needed(batch):  # else the arg-max the library has taken already is the choice
            self._choose(ios, batch)
        ios.retrieve_device_outputs()
        for sequence in batch:
            sequence.ahead += 1
        self.steps += 1

    def _create_batch_processor(self) -> ContinuousBatchProcessor:
        processor = super()._create_batch_processor()
        scheduler: Any = processor.scheduler
        if self._ranks is not None:
            self._ranks.make_room(processor.cache, self.continuous_batching_config)

        def salt_of(request_id: str) -> Many[int]:
            waiting = scheduler.waiting_requests
            return (waiting.get(request_id) or scheduler.active_requests[request_id]).salt

        salt_prefixes(processor.cache, salt_of)
        if self.model.config._attn_implementation == CPU_ATTENTION:
            self._layers = layer_views(processor.cache)
            # Our attention finds the pages itself: the library need not list every token of the cache at every step.
            processor.model_runner.maybe_pad_inputs = _reading_nothing
        if processor.cache.max_blocks_per_request > 0:
            cache: Any = processor.cache
            tables = Tables(cache, lambda: inputs(processor).block_table)
            cache.fill_block_table, self._logits_hook.on_batch = tables.note, tables.write
        self._begin_overlapping(processor)
        if self.model.device.type != "cpu":
            # The inputs were zeroed on the current stream, and the first step's may be copied to them on another.
            torch.accelerator.synchronize()
        return processor

    def _plan(self, cache: Any, write: torch.Tensor) -> Paged:
        (allocator,) = cache.cache_allocators.values()
        stride = allocator.block_physical_stride // allocator.tokens_per_page
        spans = [
            Span(
                past=future.state.position_offset - future.query_length,
                new=future.query_length,
                pages=[block * stride for block in allocator.block_table[future.state.request_id]],
            )
            for future in self._logits_hook.requests
        ]
        assert self._layers is not None
        return plan_attention(self._layers, write, spans, allocator.tokens_per_page, cache.dtype)

    def _choose(self, ios: Any, batch: list[Sequence]) -> None:
        logits = self._logits_hook.logits
        with stream_context(ios.compute_stream), without_autograd(self.model.device):
            ios.output_ids[0, : len(batch)] = self._sampler.choose(logits[: len(batch)], batch).int()

    def _handle_critical_error(self, error: Exception, batch_processor: ContinuousBatchProcessor | None) -> None:
        self._tell_broken(error)  # first: whoever hears of a failed sequence can see why
        super()._handle_critical_error(error, batch_processor)
