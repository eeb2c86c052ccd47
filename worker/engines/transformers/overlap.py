"""On GPUs a step is prepared, and the results of the one before are taken over, while the GPU computes.

The library does so too, but for every batch alike. A sequence whose next step depends on its newest token (penalties,
grammars), or tells of it (log-probabilities), has its results taken over at once here: it never runs ahead of itself.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# (transformers publishes partly unknown types, and this file uses its internals on purpose)

from collections.abc import Callable
from typing import Any

from transformers.generation.continuous_batching.continuous_api import (
    BackgroundThreadStatus,
    ContinuousBatchingManager,
    ContinuousBatchProcessor,
)
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus


def inputs(processor: ContinuousBatchProcessor) -> Any:
    """The tensors of the step that is prepared next, or whose results are taken over next."""
    ios: Any = processor.inputs_and_outputs
    return ios.io_pairs[ios.current_pair].host_io if processor.use_async_batching else ios


class OverlappedLoop(ContinuousBatchingManager):
    """The library's loop with at most one step in flight whose results nobody has seen."""

    _flying = False

    def _begin_overlapping(self, processor: ContinuousBatchProcessor) -> None:
        self._flying = False
        if processor.use_async_batching:
            scheduler: Any = processor.scheduler
            scheduler.clear_cancelled_requests = _cancelled_for_good(scheduler)

    def _overlapped(self, processor: ContinuousBatchProcessor, must_wait: Callable[[], bool]) -> bool:
        """Start a step, then take over what the one before chose, and this one's too if it `must_wait`; whether the
        loop goes on."""
        flying = self._flying
        if not processor.prepare_next_batch():
            return self._landed_or_waited(processor)
        self._generation_step()
        self.current_batch += 1
        if flying:
            _take_over(processor)
        self._flying = True
        if must_wait():
            self._land(processor)
        return True

    def _landed_or_waited(self, processor: ContinuousBatchProcessor) -> bool:
        """There is nothing to start; whether the loop goes on."""
        status = self.background_thread_status.tp_status
        if status == BackgroundThreadStatus.HARD_STOP:
            return False
        if self._flying:
            self._land(processor)
            return True
        if status == BackgroundThreadStatus.FLUSH_AND_STOP and not processor.has_pending_requests():
            return False
        self._wake_up_loop.wait(timeout=0.1)
        self._wake_up_loop.clear()
        return True

    def _land(self, processor: ContinuousBatchProcessor) -> None:
        """Take over the results of the step that was started last."""
        ios: Any = processor.inputs_and_outputs
        if processor.use_async_batching:
            ios.swap_io_pairs()
            _take_over(processor)
            inputs(processor).requests_in_batch = []  # the library takes over once more when its loop ends
            ios.swap_io_pairs()
        else:
            processor.update_batch()
        self._flying = False


def _take_over(processor: ContinuousBatchProcessor) -> None:
    """Takes over a step's results as the library does, and marks pages that it forgets: when a prompt's last piece is
    in flight already, the pages of the piece before can be shared from now on."""
    for future in inputs(processor).requests_in_batch:
        if not future.has_new_token and future.state.status == RequestStatus.DECODING:
            processor.cache.mark_complete_blocks(future.state, future.complete_blocks)
    processor.update_batch()


def _cancelled_for_good(scheduler: Any) -> Callable[[], list[RequestState]]:
    """A cancelled request may still be in flight: its results must not be looked at, because its pages are gone."""
    clear = type(scheduler).clear_cancelled_requests.__get__(scheduler)

    def cleared() -> list[RequestState]:
        states: list[RequestState] = clear()
        for state in states:
            state._status = RequestStatus.FINISHED
        return states

    return cleared
