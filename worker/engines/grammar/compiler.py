"""The threads in which guides are compiled, apart from those of prompts: each with a large stack, and most with a
process of its own in which a guide is compiled on trial first.

Only what passed its trial is compiled in the worker, on a stack twice as large; so a guide that crashes the compiler,
takes all memory or never ends harms nobody. A `plain` guide needs no trial and never waits for others.
"""

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from queue import SimpleQueue

import structlog
from llguidance import LLMatcher, LLTokenizer

from millstream.common.errors import EngineError, MillstreamError
from millstream.common.job import Guide
from millstream.worker.engines.grammar.compiling import Vocabulary, compile_guide, refused
from millstream.worker.engines.grammar.plain import plain
from millstream.worker.engines.grammar.trial import Abandoned, GuideTrial
from millstream.worker.engines.grammar.trying import STACK
from millstream.worker.engines.guide_limits import GuideLimits

_PANIC = "PanicException"  # of the compiler, which is written in Rust; its class cannot be imported

log = structlog.stdlib.get_logger(part="guides")


@dataclass(slots=True, eq=False)
class _Order:
    guide: Guide
    done: "Future[LLMatcher]" = field(default_factory=lambda: Future[LLMatcher]())
    wanted: bool = True


_Orders = SimpleQueue[_Order | None]


class CompilerThreads:
    """Compiles what is ordered, in order: plain guides on one thread, `limits.compilers` others on theirs. The threads
    begin with the first order and end by `close`."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: LLTokenizer, limits: GuideLimits) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._limits = limits
        self._lock = threading.Lock()
        self._plain: _Orders = SimpleQueue()
        self._tried: _Orders = SimpleQueue()
        self._started = False
        self.trials: list[GuideTrial] = []

    def order(self, guide: Guide) -> LLMatcher:
        """Compile and wait for it; blocking. Raises `BadGrammar`."""
        return self._put(guide).done.result()

    async def wait_for(self, guide: Guide) -> LLMatcher:
        """The same from an event loop. Cancelled, it ends the trial at once; the last part, in the worker itself, is
        waited for, so that whoever orders one guide after the other never has two compiled."""
        order = self._put(guide)
        answer = asyncio.wrap_future(order.done)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            order.wanted = False
            if not order.done.cancel():
                await asyncio.wait((answer,))
            raise

    def close(self) -> None:
        """Let every thread end after what it is at; nothing may be ordered afterwards."""
        with self._lock:
            if self._started:
                self._plain.put(None)
                for _ in self.trials:
                    self._tried.put(None)

    def _put(self, guide: Guide) -> _Order:
        order = _Order(guide)
        with self._lock:
            if not self._started:
                self._start()
                self._started = True
        (self._plain if plain(guide) else self._tried).put(order)
        return order

    def _start(self) -> None:
        """Daemons: at the process's end nobody waits for a compile."""
        self.trials = [GuideTrial(self._vocabulary, self._limits) for _ in range(self._limits.compilers)]
        before = threading.stack_size(2 * STACK)  # only touched pages are real memory
        try:
            threading.Thread(target=self._work, args=(self._plain, None), name="plain guides", daemon=True).start()
            for trial in self.trials:
                threading.Thread(target=self._work, args=(self._tried, trial), name="guides", daemon=True).start()
        finally:
            threading.stack_size(before)

    def _work(self, orders: _Orders, trial: GuideTrial | None) -> None:
        while (order := orders.get()) is not None:
            if order.done.set_running_or_notify_cancel():
                self._serve(order, trial)
        if trial is not None:
            trial.close()

    def _serve(self, order: _Order, trial: GuideTrial | None) -> None:
        try:
            if trial is not None:
                trial.run(order.guide, lambda: order.wanted)
            order.done.set_result(compile_guide(self._tokenizer, order.guide))
        except MillstreamError as error:
            order.done.set_exception(error)
        except Abandoned:
            order.done.set_exception(CancelledError())
        except Exception as error:
            log.exception("guide_broke", kind=order.guide.kind)
            order.done.set_exception(EngineError(f"The guide could not be compiled: {type(error).__name__}: {error}"))
        except BaseException as error:
            order.done.set_exception(refused(order.guide, f"{type(error).__name__}: {error}"))
            if type(error).__name__ != _PANIC:  # after a panic of the compiler, this thread serves the next guide
                raise
