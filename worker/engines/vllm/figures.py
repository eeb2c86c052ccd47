"""vLLM's figures of each step: how full its cache is, and what was found there."""

from typing import Any


class VllmFigures:
    """Gathers what a heartbeat tells. Made by vLLM's own factory protocol: `figures.logger` is called with the
    configuration, and the result with every step's figures."""

    def __init__(self) -> None:
        self.steps = 0
        self.kv_use = 0.0
        self.asked = 0  # prompt tokens looked up in the prefix cache
        self.found = 0

    @property
    def hit_rate(self) -> float:
        return self.found / self.asked if self.asked else 0.0

    def logger(self, config: Any, engine_index: int = 0) -> "VllmFigures":
        """Answers vLLM's wish for a logger of one of its engines."""
        return self

    def record(self, scheduler_stats: Any, iteration_stats: Any, **_: Any) -> None:
        """Takes the figures of one step."""
        self.steps += 1
        if scheduler_stats is None:
            return
        self.kv_use = float(scheduler_stats.kv_cache_usage)
        looked = scheduler_stats.prefix_cache_stats
        if looked is not None:
            self.asked += looked.queries
            self.found += looked.hits

    def log(self) -> None:
        """Says nothing: the heartbeat tells."""

    def log_engine_initialized(self) -> None:
        """Says nothing: the worker's own log does."""

    def record_sleep_state(self, *_: Any) -> None:
        """Takes no notice: the engine never sleeps."""
