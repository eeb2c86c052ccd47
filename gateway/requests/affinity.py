"""The digests that name a worker which served this before: of the session, and of every beginning of the conversation.

Only digests leave the gateway. A session's key holds the tenant, so that one tenant's sessions never meet another's. A
prompt's beginning holds the salt that the worker's cache is kept apart by: what cannot be shared is not looked for.
"""

import hashlib

import msgspec

from millstream.common.job import ChatPrompt, JobInput, TextPrompt, TokensPrompt

MOST = 8  # beginnings of a conversation that are looked up: its longest ones and the first
TEXT_STEP = 512  # characters between two beginnings of a plain text
TOKEN_STEP = 128  # the same in tokens


def affinity(tenant: str, session: str, prompt: JobInput | None, salt: str = "") -> tuple[str, ...]:
    """Returns keys for `Envelope.affinity`: the prompt's beginnings, the longest first; the session's before the
    shortest, which is often no more than a system prompt that many share."""
    keys = [f"p:{key}" for key in _beginnings(prompt, salt)]
    sessions = [f"s:{_digest(f'{tenant} {session}'.encode())}"] if session else []
    return (*keys[:-1], *sessions, *keys[-1:])


def _beginnings(prompt: JobInput | None, salt: str) -> list[str]:
    match prompt:
        case ChatPrompt():
            parts = [msgspec.json.encode(prompt.tools), *(msgspec.json.encode(one) for one in prompt.messages)]
            return _chain([parts[0] + parts[1], *parts[2:]], salt)
        case TextPrompt():
            return _chain([piece.encode(errors="replace") for piece in _pieces(prompt.text)], salt)
        case TokensPrompt():
            ids = prompt.ids
            steps = range(0, len(ids), TOKEN_STEP)
            return _chain([str(ids[at : at + TOKEN_STEP]).encode() for at in steps], salt)
        case _:
            return []


def _pieces(text: str) -> list[str]:
    return [text[at : at + TEXT_STEP] for at in range(0, len(text), TEXT_STEP)]


def _chain(parts: list[bytes], salt: str) -> list[str]:
    """Returns a digest of every beginning, each made from the one before: the longest first, at most `MOST`."""
    found: list[str] = []
    state = hashlib.blake2b(salt.encode(), digest_size=12)
    for part in parts:
        state.update(len(part).to_bytes(8, "big") + part)
        found.append(state.hexdigest())
    longest = found[::-1]
    return longest if len(longest) <= MOST else [*longest[: MOST - 1], found[0]]


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=12).hexdigest()
