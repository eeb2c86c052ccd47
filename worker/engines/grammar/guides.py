"""Grammars the output must follow: compiled once with llguidance, kept, and followed token by token.

A guide that cannot be compiled is a `BadGrammar` that says why, before anything is generated. A continued sequence
feeds its earlier tokens to a fresh matcher and stands where it stood.
"""

# pyright: reportUnknownMemberType=false
# (torch's tensor methods are partly unknown to pyright)

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence as Many
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide

_KEPT = 256  # compiled grammars; each is some hundred kilobytes at most
_PARAMETER = {
    "json_object": "response_format",
    "json_schema": "response_format",
    "regex": "guided_regex",
    "choice": "guided_choice",
    "grammar": "guided_grammar",
}
_ASCII = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]"}
# Without a bound a small model may write blanks for ever; this allows pretty printing to twelve levels of two blanks.
_JSON_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": r"\n? {0,24}"}


class Matcher:
    """The position of one sequence in its grammar."""

    def __init__(self, state: LLMatcher) -> None:
        self._state = state

    def consume(self, token: int) -> bool:
        """Go on by one token; False if the grammar does not allow it (`why` says more)."""
        return self._state.consume_token(token)

    @property
    def why(self) -> str:
        return self._state.get_error().partition("\n<state>")[0]  # after it: a dump of the parser

    @property
    def stopped(self) -> bool:
        """Tells whether nothing but the end of the sequence can follow."""
        return self._state.is_stopped()

    def fill_mask(self, bits: torch.Tensor) -> None:
        """Write the allowed tokens as packed bits into `bits`: int32, contiguous, on the CPU, one bit per token."""
        self._state.unsafe_compute_mask_ptr(bits.data_ptr(), bits.numel() * bits.element_size())


class GuideCompiler:
    """Compiles guides for one tokenizer and keeps them. Safe to use from several threads."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[Guide, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, guide: Guide, generated: Many[int] = ()) -> Matcher:
        """Returns a matcher that stands after `generated`. Raises `BadGrammar`."""
        state = self._prototype(guide).deep_copy()
        matcher = Matcher(state)
        for token in generated:
            if not matcher.consume(token):
                raise BadGrammar(f"The tokens so far do not follow the grammar: {matcher.why}", param=_param(guide))
        return matcher

    def _prototype(self, guide: Guide) -> LLMatcher:
        with self._lock:
            if (found := self._compiled.get(guide)) is not None:
                self._compiled.move_to_end(guide)
                return found
        compiled = self._compile(guide)
        with self._lock:
            self._compiled[guide] = compiled
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return compiled

    def _compile(self, guide: Guide) -> LLMatcher:
        try:
            state = LLMatcher(self._tokenizer, grammar_of(guide), log_level=0)
        except (ValueError, TypeError) as error:
            raise BadGrammar(f"Cannot compile the {guide.kind} guide: {error}", param=_param(guide)) from error
        trial = Matcher(state.deep_copy())
        if not trial.why:  # some grammars only fail, as too large or without any text, once a token is asked for
            trial.fill_mask(torch.zeros((self._tokenizer.vocab_size + 31) // 32, dtype=torch.int32))
        if trial.why:
            raise BadGrammar(f"Cannot compile the {guide.kind} guide: {trial.why}", param=_param(guide))
        return state


def grammar_of(guide: Guide) -> str:
    """Returns the guide in llguidance's own language. Raises ValueError for what is not even JSON where JSON is due."""
    match guide.kind:
        case "json_object":
            return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=_options())
        case "json_schema":
            return LLMatcher.grammar_from_json_schema(guide.value, overrides=_options())
        case "regex":
            return LLMatcher.grammar_from_regex(_ascii_classes(guide.value))
        case "choice":
            return LLMatcher.grammar_from_lark(_choice_grammar(json.loads(guide.value)))
        case "grammar":
            return LLMatcher.grammar_from_lark(guide.value)


def _ascii_classes(pattern: str) -> str:
    """Gives `\\d` and `\\w` the meaning they have in the patterns of JSON schemas: a digit is no Bengali or segmented
    one."""
    return re.sub(r"\\(.)", lambda escape: _ASCII.get(escape[1], escape[0]), pattern, flags=re.DOTALL)


def _options() -> Any:
    return dict(_JSON_OPTIONS)


def _choice_grammar(choices: object) -> str:
    if not isinstance(choices, list) or not choices:
        raise ValueError("a choice guide is a non-empty JSON list of strings")
    return "start: " + " | ".join(json.dumps(str(choice)) for choice in choices)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _param(guide: Guide) -> str:
    return _PARAMETER[guide.kind]


def apply_masks(logits: torch.Tensor, matchers: Many[tuple[int, Matcher]]) -> None:
    """Make what the grammars do not allow impossible, in place: `logits` `[batch, vocabulary]`, `(row, matcher)`."""
    if not matchers:
        return
    size = logits.shape[1]
    bits = torch.zeros((len(matchers), (size + 31) // 32), dtype=torch.int32)
    for i, (_, matcher) in enumerate(matchers):
        matcher.fill_mask(bits[i])
    rows = torch.tensor([row for row, _ in matchers], device=logits.device)
    allowed = unpack_bits(bits.to(logits.device), size)
    logits[rows] = logits[rows].masked_fill(~allowed, float("-inf"))


def unpack_bits(bits: torch.Tensor, size: int) -> torch.Tensor:
    """Unpacks packed int32 `[n, words]` into booleans `[n, size]`, the lowest bit first."""
    octets = bits.view(torch.uint8).unsqueeze(-1)  # little-endian words: byte order is bit order
    places = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=bits.device)
    return ((octets & places) != 0).view(bits.shape[0], -1)[:, :size]
