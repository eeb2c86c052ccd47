"""Log-probabilities of a prompt's own tokens: one forward pass over it in pieces, between the batch's steps."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

from collections.abc import Callable, Iterator

import torch
from transformers import DynamicCache, PreTrainedModel

from millstream.worker.engines.base import RawLogprob
from millstream.worker.engines.sampling.logprobs import rank_prompt

_PIECE = 256  # tokens between two steps, so that running streams keep flowing


def score_prompt(
    model: PreTrainedModel,
    prompt: list[int],
    wanted: int,
    alive: Callable[[], bool],
    done: Callable[[list[RawLogprob]], None],
    *,
    whole: bool = False,
) -> Iterator[None]:
    """Work piece by piece while `alive`; `done` gets one entry per prompt token, the first without a
    log-probability. `whole`: in one piece, for a model whose state is not known here."""
    told = [RawLogprob(None, [])]
    if whole:
        logits = model(input_ids=torch.tensor([prompt], device=model.device), use_cache=False).logits[0]
        done(told + rank_prompt(logits, prompt[1:], wanted))
        yield
        return
    cache = DynamicCache(config=model.config.get_text_config())
    for start in range(0, len(prompt), _PIECE):
        ids = torch.tensor([prompt[start : start + _PIECE]], device=model.device)
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0]
        told += rank_prompt(logits, prompt[start + 1 : start + _PIECE + 1], wanted)
        yield
        if not alive():
            return
    done(told)
