"""The loop that steps sequences one after the other, each in forward passes of its own."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch publishes partly unknown types)

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue

import torch

from millstream.common.errors import EngineError
from millstream.worker.engines.base import SequenceKey
from millstream.worker.engines.sampling.sampler import Sampler, needed
from millstream.worker.engines.sampling.sequence import Sequence
from millstream.worker.engines.transformers.forward.steps import Steps
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS

_MOST_UNREAD = 16  # tokens of an earlier lease read in one turn, so that the others' streams go on meanwhile
_WAIT = 60.0  # seconds; only a safety net, whoever has news rings


@dataclass(slots=True, eq=False)
class _Turn:
    """A sequence with its way through the model; `unread` are tokens that it has made and that are still to be read."""

    sequence: Sequence
    steps: Steps
    unread: list[int] = field(default_factory=list[int])
    logits: torch.Tensor | None = None  # of the next token, once the prompt was read


class ForwardLoop:
    """Steps at most `slots` sequences in turn, on a thread of its own. `deliver` and `broken` are called there."""

    def __init__(
        self,
        device: torch.device,
        vocabulary: int,
        slots: int,
        begin: Callable[[str], Steps],
        deliver: Callable[[list[Sequence]], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        """`begin` returns the way of a new sequence with an adapter (empty: none), `vocabulary` is the number of its
        logits."""
        self.slots = slots
        self._begin = begin
        self._deliver = deliver
        self._tell_broken = broken
        self._sampler = Sampler(vocabulary, device)
        self._arriving: SimpleQueue[Sequence] = SimpleQueue()
        self._waiting: list[Sequence] = []
        self._turns: list[_Turn] = []
        self._scoring: list[Iterator[None]] = []
        self._cancelled: set[SequenceKey] = set()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._thread: threading.Thread | None = None
        self.steps = 0
        self.closing = False

    def start(self) -> None:
        """Begins, on a thread that does not keep a dying process alive."""
        self._thread = threading.Thread(target=self._run, name="millstream-engine", daemon=True)
        self._thread.start()

    def enqueue(self, sequence: Sequence) -> None:
        self._arriving.put(sequence)
        self._news.set()

    def score(self, work: Iterator[None]) -> None:
        """Run `work` on the loop's thread, one piece in each round."""
        with self._lock:
            self._scoring.append(work)
        self._news.set()

    def cancel_request(self, key: SequenceKey) -> None:
        """Forget a sequence before its next step."""
        with self._lock:
            self._cancelled.add(key)
        self._news.set()

    def halt(self) -> None:
        """Stop at once; what still runs is dropped without a word."""
        self.closing = True
        self._news.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def kv_use(self) -> float:
        """Returns the share of the places that are taken, 0 to 1: each sequence keeps a state of its own."""
        return len(self._turns) / self.slots

    @contextmanager
    def own_attention(self) -> Generator[None]:
        """Gives a forward pass the model's own attention, which it has here anyway."""
        yield

    # ------------------------------------------------------------------------------------ on the loop's own thread
    def _run(self) -> None:
        try:
            while not self.closing:
                self._news.clear()
                if not self._round():
                    self._news.wait(_WAIT)
        except BaseException as error:
            self._tell_broken(error)
            if not isinstance(error, Exception):
                raise

    def _round(self) -> bool:
        """Gives everybody a turn, and tells whether anybody was there."""
        self._admit()
        scored = self._score_a_piece()
        told = [turn for turn in self._turns if not self.closing and self._step(turn)]
        self._turns = [turn for turn in self._turns if not turn.sequence.over]
        if told:
            self._deliver([turn.sequence for turn in told])
        return scored or bool(self._turns or self._waiting)

    def _admit(self) -> None:
        """Takes up who has arrived, as far as there is room, and lets those go whom nobody waits for any more."""
        while not self._arriving.empty():
            self._waiting.append(self._arriving.get())
        with self._lock:
            cancelled, self._cancelled = self._cancelled, set()
        self._turns = [turn for turn in self._turns if turn.sequence.key not in cancelled]
        self._waiting = [sequence for sequence in self._waiting if sequence.key not in cancelled]
        while self._waiting and len(self._turns) < self.slots:
            sequence = self._waiting.pop(0)
            steps = self._begin(sequence.spec.adapter)
            self._turns.append(_Turn(sequence, steps, unread=list(sequence.spec.generated)))

    def _score_a_piece(self) -> bool:
        with self._lock:
            work = self._scoring[0] if self._scoring else None
        if work is None:
            return False
        self.steps += 1
        with torch.inference_mode():
            if next(work, self) is self:
                with self._lock:
                    self._scoring.pop(0)
        return True

    def _step(self, turn: _Turn) -> bool:
        """Makes a sequence's next token, and tells whether there is news of it. A failure is its own."""
        sequence = turn.sequence
        try:
            if not self._caught_up(turn):
                return False
            sequence.take(self._chosen(turn))
            turn.unread = sequence.tokens[-1:]
        except (torch.OutOfMemoryError, *MODEL_ERRORS) as error:
            sequence.error = EngineError(f"The engine failed on this job: {error}")
        self.steps += 1
        return True

    def _caught_up(self, turn: _Turn) -> bool:
        """Reads the prompt and what was made so far, and tells whether the next token can be chosen."""
        if turn.logits is None:
            turn.logits = turn.steps.read(turn.sequence.spec.prompt)
            self.steps += 1
        for token in turn.unread[:_MOST_UNREAD]:
            turn.logits = turn.steps.read([token])
            self.steps += 1
        turn.unread = turn.unread[_MOST_UNREAD:]
        return not turn.unread

    def _chosen(self, turn: _Turn) -> int:
        """Returns the next token by the sequence's own parameters."""
        assert turn.logits is not None
        sequence = turn.sequence
        with torch.inference_mode():
            chosen = turn.logits.argmax(-1)
            if needed([sequence]):
                (chosen,) = self._sampler.choose(turn.logits.unsqueeze(0).clone(), [sequence])
        sequence.ahead += 1
        return int(chosen)
