"""The tokenizer as llguidance wants it: each token's bytes, as wide as the model's logits."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (transformers publishes partly unknown types)

import llguidance.hf
from llguidance import LLTokenizer
from transformers import PreTrainedTokenizerFast

from common.errors import BadGrammar
from worker.engines.transformers.loading import Loaded


def guide_tokenizer(loaded: Loaded) -> LLTokenizer:
    """About half a second of work. Raises `BadGrammar` for the few models without a fast tokenizer."""
    inner = loaded.tokenizer.inner
    if not isinstance(inner, PreTrainedTokenizerFast):
        raise BadGrammar("This model has no fast tokenizer, so its output cannot be constrained.")
    return llguidance.hf.from_tokenizer(inner, n_vocab=loaded.vocabulary, eos_token=sorted(loaded.tokenizer.eos_ids))
