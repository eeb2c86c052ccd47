"""Our sampler over some rows of vLLM's batch: afterwards each of them has one token left that is possible."""

# pyright: reportUnknownMemberType=false
# (torch's tensor methods are partly unknown to pyright)

from collections.abc import Iterable, Sequence
from math import inf

import torch

from millstream.worker.engines.sampling.sampler import Sampler
from millstream.worker.engines.sampling.sequence import Sequence as RunningSequence
from millstream.worker.engines.sampling.transfer import moved


class RowSampler:
    """Chooses the tokens of rows. Made before the size of the vocabulary is known."""

    def __init__(self) -> None:
        self._sampler: Sampler | None = None

    def choose(self, logits: torch.Tensor, rows: Sequence[int], sequences: Sequence[RunningSequence]) -> None:
        """Leaves `rows` of `logits` `[batch, vocabulary]`, float32, with one token each, in place. vLLM takes the
        arg-max."""
        if not rows:
            return
        if self._sampler is None:
            self._sampler = Sampler(logits.shape[1], logits.device)
        everything = len(rows) == logits.shape[0] and list(rows) == list(range(len(rows)))
        at = moved(list(rows), torch.long, logits.device)
        part = logits if everything else logits[at]
        chosen = self._sampler.choose(part, sequences)
        for place, sequence in enumerate(sequences):
            if sequence.error is not None:  # it fails outside, where its tokens are looked at once more
                chosen[place] = min(sequence.stops, default=0)
        logits[at] = -inf
        logits[at, chosen] = 0.0


def go_on(sequence: RunningSequence, tokens: Iterable[int]) -> None:
    """Has a sequence take tokens that vLLM made of it. `-1` stands for one that nobody knows yet."""
    sequence.ahead = 0
    for token in tokens:
        sequence.ahead += 1
        if token >= 0 and not sequence.over:
            sequence.take(token)
