"""The model's vocabulary: what is in it, and each token's bytes as llguidance wants them."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (transformers publishes partly unknown types)

from collections.abc import Iterable
from copy import copy

from transformers import PreTrainedTokenizerFast

from millstream.common.errors import BadRequest
from millstream.worker.engines.grammar.compiling import Vocabulary
from millstream.worker.engines.grammar.guides import GuideCompiler
from millstream.worker.engines.guide_limits import GuideLimits
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer


def guide_compiler(tokenizer: HuggingFaceTokenizer, size: int, limits: GuideLimits) -> GuideCompiler | None:
    """About a second of work. None for the few models without a fast tokenizer."""
    words = vocabulary_of(tokenizer, size)
    return words and GuideCompiler(words, limits)


def vocabulary_of(tokenizer: HuggingFaceTokenizer, size: int) -> Vocabulary | None:
    """Returns what llguidance must know; None for the few models without a fast tokenizer."""
    inner = tokenizer.inner
    if not isinstance(inner, PreTrainedTokenizerFast):
        return None
    backend = copy(inner.backend_tokenizer)  # its JSON knows the tokens that were added after loading as well
    backend.no_padding()
    backend.no_truncation()
    ends = sorted(tokenizer.eos_ids)
    return Vocabulary(backend.to_str(), size, ends)


def check_tokens(tokens: Iterable[int], size: int, param: str) -> None:
    """Raises `BadRequest` naming a token id that is none: the device would fail on it, and with it all other jobs."""
    for token in tokens:
        if not 0 <= token < size:
            raise BadRequest(f"Token id {token} is not in this model's vocabulary (0 to {size - 1}).", param=param)
