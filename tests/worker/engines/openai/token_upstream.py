"""An OpenAI server over real HTTP that takes and gives token ids, as vLLM does. Which token comes next follows from all
tokens before it alone, whoever made them, as with a model at temperature 0."""

from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from millstream.bench.lab.random_model import byte_tokenizer
from tests.harness.scripted_upstream import ScriptedUpstream, Turn, Wire

TEMPLATE = """{% if tools %}{{ tools | tojson }} call as <tool_call>{"name": ..., "arguments": ...}</tool_call>
{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}
{% endfor %}<assistant>"""
WORDS = byte_tokenizer(TEMPLATE)
LETTERS = WORDS.convert_tokens_to_ids(list("abcdefghijklmnopqrstuvwxyz"))
END = int(str(WORDS.eos_token_id))


def following(ids: list[int]) -> int:
    """Returns the next token: a small letter."""
    return LETTERS[crc32(str(ids).encode()) % 26]


def ids_of(text: str) -> list[int]:
    return list(WORDS.encode(text, add_special_tokens=False))


@dataclass
class TokenUpstream(ScriptedUpstream):
    """Says `text` in place of letters, if there is one."""

    text: str = ""
    drifts: bool = False  # answers from the second on are others
    spelt: bool = True  # tells how it splits texts
    names_ids: bool = True
    streams: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def _answer(self, head: dict[str, str], body: Any, wire: Wire) -> None:
        if head["path"] == "/tokenize" and self.spelt:
            await wire.json({"tokens": ids_of(body["prompt"]), "token_strs": []})
        elif head["path"] == "/v1/completions" and body.get("return_token_ids"):
            turn = Turn(words=body["max_tokens"])
            if body["prompt"] != ids_of("Hello"):  # else it is the trial at the start
                self.streams.append(body)
                turn = self.turns.popleft() if self.turns else turn
            await self._tokens(turn, body, wire)
        else:
            await super()._answer(head, body, wire)

    async def _tokens(self, turn: Turn, body: dict[str, Any], wire: Wire) -> None:
        if turn.status != 200:
            await wire.json(turn.error, turn.status, turn.headers)
            return
        await wire.begin()
        ids, finish = list(body["prompt"]), "length"
        script = [*ids_of(self.text), END] if self.text else None
        made = 0 if script is None else _made(ids, script)
        for number in range(body["max_tokens"]):
            if not await self._fault(turn, number, wire):
                return
            token = following(ids) if script is None else script[made + number]
            token = LETTERS[0] if self.drifts and len(self.streams) > 1 else token
            ids.append(token)
            finish = "stop" if token in body["stop_token_ids"] else "length"
            choice = {"index": 0, "text": WORDS.decode([token]), "token_ids": [token] if self.names_ids else None}
            if "logprobs" in body:
                told = {f"token_id:{token}": -0.5, f"token_id:{END}": -2.0}
                choice["logprobs"] = {"tokens": [f"token_id:{token}"], "token_logprobs": [-0.5], "top_logprobs": [told]}
            await wire.event({"choices": [choice]})
            if finish == "stop":
                break
        await wire.event({"choices": [{"index": 0, "text": "", "token_ids": [], "finish_reason": finish}]})
        details = {"prompt_tokens_details": {"cached_tokens": 3}}
        await wire.event({"choices": [], "usage": {"prompt_tokens": len(body["prompt"]), **details}})
        await wire.data(b"data: [DONE]\n\n")
        await wire.end()


def _made(ids: list[int], script: list[int]) -> int:
    """Returns how much of an answer the prompt ends with already."""
    return max(n for n in range(len(script) + 1) if n == 0 or ids[-n:] == script[:n])
