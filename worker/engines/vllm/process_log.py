"""Reads what vLLM's processes print: stages of loading, warnings for our own log, and why they died."""

import re
from collections import deque

import structlog

from millstream.worker.engines.base import LoadProgress

_KEPT = 400  # lines, for the cause of a failure
_PROGRESS = re.compile(r"(Loading [\w ]*shards|Capturing CUDA graphs?)[^:]*:\s+(\d+)%")
_STAGES = {
    "Starting to load model": "loading the weights",
    "Loading weights took": "making room for the cache",
    "torch.compile": "compiling the model",
    "KV cache size": "warming up",
}
_ERROR = re.compile(r"(?:^|[\]\s])((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): (.+)$")
_HEAD = re.compile(r"^\((?P<process>[\w ]+?) pid=\d+\) (?P<level>[A-Z]+) [\d-]+ [\d:]+ \[[^\]]*\] ?(?P<words>.*)$")
_FOLLOWS = ("Engine core initialization failed", "WorkerProc initialization failed", "See root cause above")

log = structlog.stdlib.get_logger(part="vllm")


class ProcessLog:
    """Takes the lines one by one, on the thread that reads them."""

    def __init__(self, progress: LoadProgress) -> None:
        self._progress: LoadProgress | None = progress
        self._stage = ""
        self._lines: deque[str] = deque(maxlen=_KEPT)

    def loaded(self) -> None:
        """Tells no more stages from now on."""
        self._progress = None

    def add(self, line: str) -> None:
        self._lines.append(line)
        found = _HEAD.match(line)
        if self._progress is not None:
            self._tell(self._progress, line)
        if found and found["level"] in ("ERROR", "CRITICAL") and self._progress is None:
            log.error("vllm_says", process=found["process"], line=found["words"])
        elif found and found["level"] == "WARNING" and self._progress is None:
            log.warning("vllm_says", process=found["process"], line=found["words"])
        elif line.strip():
            log.debug("vllm_says", line=line)

    def _tell(self, progress: LoadProgress, line: str) -> None:
        if found := _PROGRESS.search(line):
            stage = "loading the weights" if found[1].startswith("Loading") else "capturing graphs"
            self._say(progress, stage, int(found[2]) / 100)
            return
        for words, stage in _STAGES.items():
            if words in line and stage != self._stage:
                self._say(progress, stage, None)

    def _say(self, progress: LoadProgress, stage: str, fraction: float | None) -> None:
        self._stage = stage
        progress(stage, fraction)

    def cause(self) -> str:
        """Returns the first error in what was printed lately, which the later ones followed from; empty if none."""
        for line in self._lines:
            found = _ERROR.search(line)
            if found and not any(words in line for words in _FOLLOWS):
                return f"{found[1].rpartition('.')[2]}: {found[2].strip()}"
        return ""
