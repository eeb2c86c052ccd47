"""Log-probabilities as OpenAI means them: the log-softmax of the model's own logits, before any sampling parameter."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's tensor methods are partly unknown to pyright)

import torch

from millstream.worker.engines.base import RawLogprob


class Ranking:
    """The raw logits of some rows, kept until their tokens are chosen."""

    def __init__(self, logits: torch.Tensor, rows: list[int], wanted: list[int]) -> None:
        """Keeps `logits` `[batch, vocabulary]`; `rows` of it are wanted with `wanted[i]` alternatives each."""
        self._rows = torch.tensor(rows, device=logits.device)
        self._wanted = wanted
        own = logits[self._rows]  # a copy: sampling edits the batch's logits in place
        self._own = own
        self._normaliser = own.logsumexp(-1, keepdim=True)
        self._top = torch.topk(own, max([1, *wanted]), dim=-1)

    def told(self, tokens: torch.Tensor) -> list[RawLogprob]:
        """Returns one `RawLogprob` per row, for the chosen `tokens` `[batch]`."""
        chosen = self._own.gather(1, tokens[self._rows].long().unsqueeze(1)) - self._normaliser
        values = (self._top.values - self._normaliser).tolist()
        ids = self._top.indices.tolist()
        return [
            RawLogprob(logprob, list(zip(ids[i][:n], values[i][:n], strict=True)))
            for i, (logprob, n) in enumerate(zip(chosen.squeeze(1).tolist(), self._wanted, strict=True))
        ]


def rank_prompt(logits: torch.Tensor, following: list[int], wanted: int) -> list[RawLogprob]:
    """Ranks the tokens of a prompt: `logits` `[n, vocabulary]` and the tokens that followed each position."""
    if not following:
        return []
    n = len(following)
    ranking = Ranking(logits[:n].float(), list(range(n)), [wanted] * n)
    return ranking.told(torch.tensor(following, device=logits.device))
