"""Choose the next token of every row of a batch, each by its own parameters, all rows together.

Order, as vLLM and Hugging Face have it: raw logits (log-probabilities are told of these) → bias, allowed and banned
tokens, minimum length → penalties → grammar → temperature → top-k → top-p → min-p → draw.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's tensor methods are partly unknown to pyright)

import math
from collections.abc import Sequence as Many

import torch

from millstream.worker.engines.grammar.guides import apply_masks
from millstream.worker.engines.sampling.logprobs import Ranking
from millstream.worker.engines.sampling.penalties import add_bias, allow_only, forbid, penalise
from millstream.worker.engines.sampling.seeded_noise import SeededNoise, noise_key
from millstream.worker.engines.sampling.sequence import Sequence
from millstream.worker.engines.sampling.transfer import moved

_CANDIDATES = 512  # looked at first for top-p and min-p: sorting a whole vocabulary costs twenty times as much
_MORE_CANDIDATES = 8192
_COLDEST = 1e-6  # as good as greedy; below it a logit divided by the temperature leaves float32


class Sampler:
    """Holds what does not change between steps: the noise table of the vocabulary."""

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self._noise = SeededNoise(vocabulary, device)

    def choose(self, logits: torch.Tensor, batch: Many[Sequence]) -> torch.Tensor:
        """Returns the next token of each sequence: int64 `[batch]`. `logits` float32 `[batch, vocabulary]`, edited in
        place. Sequences that asked for it get their `logprob`."""
        asked = [i for i, s in enumerate(batch) if s.spec.sampling.logprobs is not None]
        ranking = None
        if asked:
            ranking = Ranking(logits, asked, [batch[i].spec.sampling.logprobs or 0 for i in asked])
        _edit(logits, batch)
        tokens = self._draw(logits, batch)
        if ranking is not None:
            for i, told in zip(asked, ranking.told(tokens), strict=True):
                batch[i].logprob = told
        return tokens

    def _draw(self, logits: torch.Tensor, batch: Many[Sequence]) -> torch.Tensor:
        tokens = logits.argmax(-1)
        free, limited = _split(batch)
        for rows, draw in ((free, self._draw_free), (limited, self._draw_limited)):
            if len(rows) == len(batch):
                return draw(logits, batch)
            if rows:
                at = moved(rows, torch.long, logits.device)
                tokens[at] = draw(logits[at], [batch[i] for i in rows])
        return tokens

    def _draw_free(self, logits: torch.Tensor, batch: Many[Sequence]) -> torch.Tensor:
        """Draws from the whole vocabulary."""
        return _warm(logits, batch).add_(self._noise.rows(_keys(batch))).argmax(-1)

    def _draw_limited(self, logits: torch.Tensor, batch: Many[Sequence]) -> torch.Tensor:
        """Draws from the best tokens only, as top-k, top-p and min-p say. Where the first candidates do not hold all
        that the limits keep (flat distributions), more are looked at."""
        warm = _warm(logits, batch)
        tokens, rows = None, list(range(len(batch)))
        for width in _widths(batch, logits.shape[1]):
            part = [batch[i] for i in rows]
            scores, ids, enough = _keep(warm if tokens is None else warm[rows], part, width)
            scores += self._noise.at(_keys(part), ids)
            drawn = ids.gather(1, scores.argmax(-1, keepdim=True)).squeeze(1)
            if tokens is None:
                tokens = drawn
            else:
                tokens[rows] = drawn
            rows = [i for i, known in zip(rows, enough.tolist(), strict=True) if not known]
            if not rows:
                break
        assert tokens is not None
        return tokens


def _widths(batch: Many[Sequence], size: int) -> list[int]:
    """Returns how many candidates to look at, first and then; all of them in the end."""
    ks = [s.spec.sampling.top_k or size for s in batch]
    return [min(width, size) for width in (min(max(ks), _CANDIDATES), _MORE_CANDIDATES, size)]


def needed(batch: Many[Sequence]) -> bool:
    """Tells whether any row wants more than the arg-max of the model's own logits."""
    return not all(_plain(s) for s in batch)


def _plain(s: Sequence) -> bool:
    p = s.spec.sampling
    early = bool(s.banned_early) and s.position < p.min_tokens
    limited = bool(p.allowed_token_ids or s.spec.banned)
    edited = p.logit_bias or early or limited or s.tally is not None or s.matcher is not None
    return p.temperature == 0 and p.logprobs is None and not edited


def _edit(logits: torch.Tensor, batch: Many[Sequence]) -> None:
    """Applies bias, limits, minimum length, penalties and grammar, in place."""
    add_bias(logits, [(i, {int(t): v for t, v in s.spec.sampling.logit_bias.items()}) for i, s in enumerate(batch)])
    penalise(logits, [(i, s.tally) for i, s in enumerate(batch) if s.tally is not None])
    allow_only(logits, [(i, p) for i, s in enumerate(batch) if (p := s.spec.sampling.allowed_token_ids)])
    forbid(logits, [(i, s.forbidden) for i, s in enumerate(batch) if s.spec.banned])
    forbid(logits, [(i, s.banned_early) for i, s in enumerate(batch) if _too_early(s)])
    apply_masks(logits, [(i, s.matcher) for i, s in enumerate(batch) if s.matcher is not None])


def _too_early(s: Sequence) -> bool:
    """Tells whether the end comes too early. A finished grammar leaves nothing but the end: then the minimum length
    cannot be kept."""
    short = bool(s.banned_early) and s.position < s.spec.sampling.min_tokens
    return short and not (s.matcher is not None and s.matcher.stopped)


def _split(batch: Many[Sequence]) -> tuple[list[int], list[int]]:
    """Returns the rows that draw from the whole vocabulary, and those that draw from a part of it; greedy rows are in
    neither."""
    free: list[int] = []
    limited: list[int] = []
    for i, s in enumerate(batch):
        p = s.spec.sampling
        if p.temperature > 0:
            (limited if p.top_k > 0 or p.top_p < 1 or p.min_p > 0 else free).append(i)
    return free, limited


def _keys(batch: Many[Sequence]) -> list[tuple[int, int]]:
    return [noise_key(s.spec.sampling.seed, s.position) for s in batch]


def _warm(logits: torch.Tensor, batch: Many[Sequence]) -> torch.Tensor:
    return logits / _column([max(s.spec.sampling.temperature, _COLDEST) for s in batch], logits)


def _column(values: list[float], like: torch.Tensor) -> torch.Tensor:
    return moved(values, torch.float32, like.device).unsqueeze(1)


def _limits(batch: Many[Sequence], like: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Three columns: top-k, top-p and the logarithm of min-p."""
    size = like.shape[1]
    told = [
        (min(p.top_k or size, size), p.top_p, math.log(p.min_p) if p.min_p > 0 else -math.inf)
        for p in (s.spec.sampling for s in batch)
    ]
    return moved(told, torch.float32, like.device).split(1, dim=1)


def _keep(warm: torch.Tensor, batch: Many[Sequence], width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the best `width` tokens of each row, best first, what the limits exclude at minus infinity: scores and
    ids `[batch, width]`, and whether `width` was enough to know `[batch]`."""
    top_k, top_p, floor = _limits(batch, warm)
    scores, ids = torch.topk(warm, width, dim=-1)
    inside = torch.arange(width, device=warm.device).unsqueeze(0) < top_k
    scores = scores.masked_fill(~inside, -math.inf)
    whole = top_k > width
    total = torch.where(whole, warm.logsumexp(-1, keepdim=True), scores.logsumexp(-1, keepdim=True))
    mass = (scores - total).exp()
    before = mass.cumsum(-1) - mass
    kept = ((before < top_p) | (top_p >= 1)) & (scores >= scores[:, :1] + floor)
    kept[:, 0] = True
    enough = ~(kept[:, -1:] & whole).squeeze(1) | (width == warm.shape[1])
    return scores.masked_fill(~kept, -math.inf), ids, enough
