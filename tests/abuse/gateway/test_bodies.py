"""Large bodies of every wrong kind, and valid ones that ask for much: nobody else waits for them."""

import json
from pathlib import Path
from typing import Any

import pytest

from millstream.common.broker.embedded import EmbeddedValkey
from tests.abuse.gateway.attacked import MODEL, scene

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"
MILLION = 1_000_000
MIB = 2**20


def asking(path: str, **fields: Any) -> tuple[str, bytes]:
    return path, json.dumps({"model": MODEL, **fields}, separators=(",", ":")).encode()


def listed(path: str, entry: bytes, bytes_of_it: int) -> tuple[str, bytes]:
    """A list of one entry over and over."""
    name = {CHAT: b"messages", COMPLETIONS: b"prompt"}.get(path, b"input")
    many = b",".join([entry] * (bytes_of_it // (len(entry) + 1)))
    return path, b'{"model":"%b","%b":[%b]}' % (MODEL.encode(), name, many)


def said(content: Any, **fields: Any) -> tuple[str, bytes]:
    return asking(CHAT, messages=[{"role": "user", "content": content}], max_tokens=1, **fields)


ATTACKS = {
    "a million wrong parts": lambda: said([0] * MILLION),
    "16 MB of wrong parts": lambda: said([0] * (8 * MIB - 100)),
    "16 MB of wrong prompts": lambda: listed(COMPLETIONS, b"{}", 15 * MIB),
    "wrong inputs": lambda: listed(EMBEDDINGS, b"[[]]", 4 * MIB),
    "wrong items": lambda: listed(RESPONSES, b"0", 2 * MIB),
    "10 MB of token ids": lambda: listed(COMPLETIONS, b"12345", 10 * MIB),
    "a million token ids": lambda: listed(COMPLETIONS, b"12", 3 * MIB - 100),
    "the last token id is none": lambda: asking(COMPLETIONS, prompt=[1] * (MILLION - 1) + ["x"]),
    "128 choices of 4 MB": lambda: said("word " * (4 * MIB // 5), n=128),
    "500,000 parts": lambda: said([{"type": "text", "text": "a"}] * 500_000),
    "as many parts as are allowed": lambda: said([{"type": "text", "text": "a"}] * 16384),
    "300,000 items": lambda: asking(RESPONSES, input=[{"role": "user", "content": "a"}] * 300_000),
    "a million fields": lambda: said("hi", metadata={str(index): 0 for index in range(MILLION)}),
    "wrong values of metadata": lambda: said("hi", metadata={str(index): 0 for index in range(130_000)}),
    "wrong biases": lambda: said("hi", logit_bias={str(index): 1000 for index in range(130_000)}),
    "a million values of no shape": lambda: said("hi", chat_template_kwargs={"a": [0] * MILLION}),
    "16 MB of short strings": lambda: said("hi", guided_choice=["a"] * (4 * MIB - 100)),
    "16 MB of commas in a text, with one wrong part": lambda: said([{"type": "text", "text": "{,[" * 5 * MIB}, 0]),
    "16 MB of open brackets": lambda: (CHAT, b"[" * 16 * MIB),
}


@pytest.mark.timeout(600)
async def test_a_neighbour_is_served_while_large_bodies_come(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with scene(own_valkey, tmp_path) as attacked:
        for name, make in ATTACKS.items():
            path, body = make()
            with attacked.lean():
                async with attacked.watched() as neighbour:
                    answer = await attacked.attack(path, body)
                print(f"{name}: {answer.status_code} {answer.text[:90]!r}, neighbour {neighbour.answers} answers")
            assert answer.status_code in (200, 400, 413), (name, answer.text[:300])
