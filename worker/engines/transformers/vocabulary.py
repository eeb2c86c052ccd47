"""The tokenizer as llguidance wants it: each token's bytes, as wide as the model's logits."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (transformers publishes partly unknown types)

import llguidance.hf
from transformers import PreTrainedTokenizerFast

from worker.engines.guides import GuideCompiler
from worker.engines.transformers.loading import Loaded


def guide_compiler(loaded: Loaded) -> GuideCompiler | None:
    """About a second of work. None for the few models without a fast tokenizer."""
    inner = loaded.tokenizer.inner
    if not isinstance(inner, PreTrainedTokenizerFast):
        return None
    ends = sorted(loaded.tokenizer.eos_ids)
    return GuideCompiler(llguidance.hf.from_tokenizer(inner, n_vocab=loaded.vocabulary, eos_token=ends))
