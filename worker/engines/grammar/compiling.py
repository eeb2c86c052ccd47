"""One guide into llguidance's matcher. Pure and blocking; torch is not needed, so the trying process starts quickly."""

import json
import re
from array import array
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from millstream.common.errors import BadGrammar, EngineError, MillstreamError
from millstream.common.job import Guide
from millstream.worker.engines.grammar.readable import readable_text

_ASCII = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]"}
_ABOUT = {  # what the compiler says of a schema without naming the keyword
    "pattern": re.compile("regex parse error|lookarounds not supported"),
    "minimum or maximum": re.compile("Failed to generate regex for (?:float|integer) range"),
    "$ref": re.compile("Resource '"),
    "false": re.compile("Unsatisfiable schema"),
}
INCOMPLETE = "it is not complete"  # an answer that ended
_NOT_FOLLOWED = (INCOMPLETE, "doesn't satisfy the grammar")
_CODES = {"NoExtensionBias": "no text follows it to an end"}  # what the compiler says by its own names alone
_DUMP = re.compile(r"\n<(?:state|backtrace)>")  # what the compiler adds for its own authors
# Without a bound a small model may write blanks for ever; this allows pretty printing to twelve levels of two blanks.
_JSON_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": r"\n? {0,24}"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The facts that llguidance needs of a tokenizer: its JSON, how many tokens the model has, and those that end an
    answer."""

    tokenizer: str
    size: int
    ends: list[int]

    def load(self) -> LLTokenizer:
        """About a second of work."""
        return LLTokenizer(self.tokenizer, n_vocab=self.size, eos_token=self.ends)


def compile_guide(tokenizer: LLTokenizer, guide: Guide) -> LLMatcher:
    """A matcher at the beginning. Raises `BadGrammar` with the compiler's reason."""
    try:
        state = LLMatcher(tokenizer, grammar_of(guide), log_level=0)
    except (ValueError, TypeError) as error:
        raise refused(guide, str(error)) from error
    except RecursionError as error:
        raise refused(guide, "it nests too deeply") from error
    trial = state.deep_copy()
    why = reason(trial)
    if not why:  # some grammars only fail, as too large or without any text, once a token is asked for
        mask = array("I", bytes((tokenizer.vocab_size + 31) // 32 * 4))
        trial.unsafe_compute_mask_ptr(mask.buffer_info()[0], len(mask) * mask.itemsize)
        why = reason(trial)
    if why:
        raise refused(guide, why)
    return state


def reason(state: LLMatcher) -> str:
    """Says why a matcher goes no further; empty while it does."""
    return _DUMP.split(state.get_error(), maxsplit=1)[0]


def given_up(why: str, guide: Guide | None) -> MillstreamError:
    """Returns why an answer ends before its grammar does. Some grammars become too large only when they are followed,
    and that says nothing of the engine; a token that a grammar does not allow is the engine's fault."""
    text = f"The output can no longer follow the grammar: {why}"
    if any(words in why for words in _NOT_FOLLOWED):
        return EngineError(text)
    return BadGrammar(text, param=guide.param if guide is not None else None)


def refused(guide: Guide, why: str) -> BadGrammar:
    why = _CODES.get(why, why)
    keyword = next((key for key, words in _ABOUT.items() if words.match(why)), "")
    named = f"`{keyword}`: " if keyword and guide.kind == "json_schema" else ""
    hint = ". Without `strict`, what no grammar can follow is left out of a schema." if guide.strict else ""
    return BadGrammar(f"Cannot compile the {guide.kind} guide: {named}{why}{hint}", param=guide.param)


def grammar_of(guide: Guide) -> str:
    """The guide in llguidance's own language. Raises ValueError for what is not even JSON where JSON is due."""
    match guide.kind:
        case "json_object":
            return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=_options())
        case "json_schema":
            schema = readable_text(guide.value, strict=guide.strict)
            return LLMatcher.grammar_from_json_schema(schema, overrides=_options(lenient=not guide.strict))
        case "regex":
            return LLMatcher.grammar_from_regex(_ascii_classes(guide.value))
        case "choice":
            return LLMatcher.grammar_from_lark(_choice_grammar(json.loads(guide.value)))
        case "grammar":
            return LLMatcher.grammar_from_lark(guide.value)


def _ascii_classes(pattern: str) -> str:
    """`\\d` and `\\w` as in the patterns of JSON schemas: a digit is no Bengali or segmented one."""
    return re.sub(r"\\(.)", lambda escape: _ASCII.get(escape[1], escape[0]), pattern, flags=re.DOTALL)


def _options(**more: bool) -> Any:
    return _JSON_OPTIONS | more


def _choice_grammar(choices: object) -> str:
    if not isinstance(choices, list) or not choices:
        raise ValueError("a choice guide is a non-empty JSON list of strings")
    return "start: " + " | ".join(json.dumps(str(choice)) for choice in choices)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
