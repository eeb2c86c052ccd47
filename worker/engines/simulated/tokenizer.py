"""The simulated engine's words: a text's tokens are its UTF-8 bytes, an answer's tokens are hash chain words.

Bytes as tokens mean that every character beyond ASCII is split across tokens, which is what real tokenizers do at
their worst, and that any text comes back exactly.
"""

import json
from collections.abc import Sequence
from typing import Any

from millstream.common.errors import BadRequest
from millstream.common.hashchain import CHAIN_BASE, chain_text
from millstream.worker.engines.base import Shown

TURN, END = "<|im_start|>", "<|im_end|>"
SPECIAL: dict[int, str] = {256: END, 257: TURN}
EOS = 256
_IDS = {text: token for token, text in SPECIAL.items()}

CHAT_TEMPLATE = (
    "{%- if tools %}<|im_start|>system\nTools: <tools>{{ tools | tojson }}</tools>\n"
    'Answer with <tool_call>{"name": ..., "arguments": ...}</tool_call> to call one.<|im_end|>\n{%- endif %}'
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}{#- reasons in <think></think> -#}"
)
"""What `SimulatedTokenizer.chat` does, in the notation the parsers are chosen by."""


class SimulatedTokenizer:
    """Implements `worker.engines.base.Tokenizer`."""

    eos_ids: frozenset[int] = frozenset((EOS,))
    chat_template: str = CHAT_TEMPLATE
    shown: Shown = Shown(tools=True, calls=True, calls_with_tools=True)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Returns UTF-8 bytes; with `special`, the markers of a turn become one token each."""
        if not special or "<|im_" not in text:
            return list(text.encode("utf-8", "replace"))
        ids: list[int] = []
        for index, block in enumerate(text.split(TURN)):
            ids += [_IDS[TURN]] if index else []
            for position, words in enumerate(block.split(END)):
                ids += [EOS] if position else []
                ids += words.encode("utf-8", "replace")
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return b"".join(_written(token, skip_special) for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return _written(token, False)

    def chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], *, go_on: bool, kwargs: dict[str, Any]
    ) -> list[int]:
        """Returns a turn for each message, tools in a turn before them. `go_on` leaves the last turn open."""
        if not messages:
            raise BadRequest("There must be at least one message.", param="messages")
        turns = [_tools_turn(tools)] if tools else []
        turns += [_turn(message) for message in messages]
        body = [self._close(turn) for turn in turns]
        if go_on:
            body[-1] = body[-1][: -len(_CLOSING)]
        opening = [] if go_on else [_IDS[TURN], *b"assistant\n"]
        return [token for turn in body for token in turn] + opening

    def _close(self, turn: tuple[str, str]) -> list[int]:
        role, content = turn
        return [_IDS[TURN], *self.encode(f"{role}\n{content}", special=False), *_CLOSING]


_CLOSING = (EOS, *b"\n")


def _written(token: int, skip_special: bool) -> bytes:
    if 0 <= token < 256:
        return bytes((token,))
    if token in SPECIAL:
        return b"" if skip_special else SPECIAL[token].encode()
    return chain_text(token).encode() if CHAIN_BASE <= token < 2 * CHAIN_BASE else "\ufffd".encode()


def _tools_turn(tools: list[dict[str, Any]]) -> tuple[str, str]:
    return "system", f"Tools: <tools>{json.dumps(tools, ensure_ascii=False)}</tools>"


def _turn(message: dict[str, Any]) -> tuple[str, str]:
    content = message.get("content") or ""
    words = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    made: list[dict[str, Any]] = message.get("tool_calls") or []
    calls = [json.dumps(call.get("function", call), ensure_ascii=False) for call in made]
    return str(message.get("role", "user")), words + "".join(f"\n<tool_call>\n{c}\n</tool_call>" for c in calls)
