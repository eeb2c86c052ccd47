"""Reads as much of Lua as the checks of the scripts need: its words, where functions begin and end, what a file
uses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"""(?P<skip>\s+|--\[\[.*?\]\]|--[^\n]*)|(?P<text>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<sign>\.\.\.?|[=~<>]=|.)""",
    re.DOTALL,
)
KEYWORDS = {
    "and",
    "break",
    "do",
    "else",
    "elseif",
    "end",
    "false",
    "for",
    "function",
    "if",
    "in",
    "local",
    "nil",
    "not",
    "or",
    "repeat",
    "return",
    "then",
    "true",
    "until",
    "while",
}
OPENS = {"do", "function", "if", "repeat"}
CLOSES = {"end", "until"}
GIVEN = {  # what the server gives a script
    "redis",
    "cjson",
    "KEYS",
    "ARGV",
    "string",
    "table",
    "math",
    "tonumber",
    "type",
    "tostring",
    "ipairs",
    "pairs",
    "next",
    "unpack",
    "pcall",
}


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class LuaFunction:
    name: str
    line: int
    lines: int


def tokens(source: str) -> list[Token]:
    found: list[Token] = []
    line = 1
    for match in TOKEN.finditer(source):
        kind = match.lastgroup or ""
        if kind != "skip":
            found.append(Token(kind, match.group(), line))
        line += match.group().count("\n")
    return found


def functions(source: str) -> Iterator[LuaFunction]:
    """Every function with a name or without one, inner ones included."""
    words = tokens(source)
    open_blocks: list[Token | LuaFunction] = []
    for at, word in enumerate(words):
        if word.kind != "name":
            continue
        if word.text == "function":
            named = words[at + 1]
            open_blocks.append(LuaFunction(named.text if named.kind == "name" else "(no name)", word.line, 0))
        elif word.text in OPENS:
            open_blocks.append(word)
        elif word.text in CLOSES:
            block = open_blocks.pop()
            if isinstance(block, LuaFunction):
                yield LuaFunction(block.name, block.line, word.line - block.line + 1)
    assert not open_blocks, f"not closed: {open_blocks}"


def top_names(source: str) -> set[str]:
    """The locals a file defines outside all functions: what those get that include it."""
    return set(re.findall(r"^local (?:function )?(\w+)", source, re.MULTILINE)) | {
        name for names in re.findall(r"^local (\w+(?:, \w+)+)", source, re.MULTILINE) for name in names.split(", ")
    }


def _is_field(words: list[Token], at: int) -> bool:
    """`a.field`, `a:method`, or `field = …` inside a table."""
    before = words[at - 1].text if at else ""
    if before in (".", ":"):
        return True
    after = words[at + 1].text if at + 1 < len(words) else ""
    return after == "=" and before in ("{", ",") and _inside_table(words, at)


def _inside_table(words: list[Token], at: int) -> bool:
    depth = 0
    for word in reversed(words[:at]):
        depth += {"}": 1, ")": 1, "{": -1, "(": -1}.get(word.text, 0)
        if depth < 0:
            return word.text == "{"
        if depth == 0 and word.text in ("local", "for", "do", "then", "end", "return"):
            return False
    return False


def names_used(source: str) -> list[Token]:
    """Every word that stands for a variable, where it is declared as well as where it is read."""
    words = tokens(source)
    return [
        word
        for at, word in enumerate(words)
        if word.kind == "name" and word.text not in KEYWORDS and not _is_field(words, at)
    ]


def _declared(words: list[Token], at: int) -> set[str]:
    """The names that `local`, `for` or a function's parameters at this word declare."""
    found: set[str] = set()
    if words[at].text == "local" and words[at + 1].text == "function":
        return {words[at + 2].text}
    if words[at].text == "function":
        while words[at].text != "(":
            at += 1
    if words[at].text not in ("local", "for", "("):
        return found
    while words[at + 1].kind == "name" and words[at + 1].text not in KEYWORDS:
        found.add(words[at + 1].text)
        at += 2
        if words[at].text != ",":
            break
    return found


def undeclared(source: str) -> list[str]:
    """Names used before any declaration of them, and not the server's: misspelt, or of a library not named. It knows no
    scopes, so a name of one function passes in another that follows."""
    words = tokens(source)
    known = set(GIVEN)
    wrong: list[str] = []
    for at, word in enumerate(words):
        if word.kind != "name":
            continue
        if word.text in ("local", "for", "function"):
            known |= _declared(words, at)
        elif word.text not in KEYWORDS and word.text not in known and not _is_field(words, at):
            wrong.append(f"{word.text} (line {word.line})")
    return wrong


ONE_KEY = re.compile(r"local (?:function )?(\w+)(?:\([\w, ]*\) return| =) (.+?)(?: end)?$")


def key_patterns(source: str) -> dict[str, str]:
    """The keys a file of one definition a line makes, by the names of the definitions: literals as they are, parameters
    as `<parameter>`, `P` as what the comment above says (`-- ms:{model}:`). A name of a stream is a key of the model
    without its prefix."""
    found: dict[str, str] = {}
    prefix = ""
    for line in source.splitlines():
        if heading := re.match(r"-- (ms:\{.*\}:)$", line):
            prefix = heading[1]
        elif definition := ONE_KEY.match(line):
            parts = definition[2].split(" .. ")
            if all(re.fullmatch(r"\w+|'[^']*'", part) for part in parts):
                spelt = "".join(part[1:-1] if part[0] == "'" else f"<{part}>" for part in parts)
                key = spelt.replace("<P>", prefix)
                found[definition[1]] = key if key.startswith("ms:") else prefix + key
        elif line.startswith("local"):
            raise AssertionError(f"not one definition a line: {line}")
    return found
