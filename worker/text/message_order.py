"""The same conversation in other messages, for chat templates that do not take it as the client sent it.

Templates state rules that no API has: one system message, at the front or nowhere; turns that alternate; one call a
turn; identities of calls with nine letters and digits. Each function here returns a new list that keeps one such rule
and says all that the given one says.
"""

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

Conversation = list[dict[str, Any]]
Change = Callable[[Conversation], Conversation]

ID_LENGTH = 9
ANSWERED = "Done."  # the assistant's turn between two of the user, where a template must have one
ASKED = "Go on."  # the user's turn before one of the assistant
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_SYSTEM = ("system", "developer")


def candidates(messages: Conversation, in_words: Change) -> Iterator[Conversation]:
    """The conversation in one form after the other, each changed more than the one before; none twice. `in_words` makes
    text of calls and results."""
    usual: tuple[Change, ...] = (short_ids, system_first, neighbours_joined, single_calls, turns_alternating)
    said: tuple[Change, ...] = (in_words, neighbours_joined, turns_alternating)
    native = spoken = messages
    forms = [native := change(native) for change in usual]
    forms += [spoken := change(spoken) for change in (system_first, *said)]
    forms += [neighbours_joined(system_in_user(form)) for form in (native, spoken)]
    tried = [messages]
    for form in forms:
        if form not in tried:
            tried.append(form)
            yield form


def short_ids(messages: Conversation) -> Conversation:
    """Every identity of a call with nine letters and digits; the same one always becomes the same."""
    return [_with_short_ids(message) for message in messages]


def short_id(given: str) -> str:
    """Returns an identity that has this form already as it is."""
    return given if _NINE.fullmatch(given) else sha256(given.encode()).hexdigest()[:ID_LENGTH]


def _with_short_ids(message: dict[str, Any]) -> dict[str, Any]:
    changed = dict(message)
    if message.get("tool_calls"):
        changed["tool_calls"] = [{**call, "id": short_id(str(call.get("id") or ""))} for call in message["tool_calls"]]
    if message.get("tool_call_id"):
        changed["tool_call_id"] = short_id(str(message["tool_call_id"]))
    return changed


def numbered_ids(messages: Conversation) -> Conversation:
    """Every identity of a call as `functions.NAME:N`, N counting the conversation's calls: the only place where Kimi
    K2's template tells its model which function was called."""
    known: dict[str, str] = {}
    numbered: Conversation = []
    for message in messages:
        changed, number = dict(message), len(known)
        if message.get("tool_calls"):
            ids = [f"functions.{c['function']['name']}:{number + n}" for n, c in enumerate(message["tool_calls"])]
            known |= {str(c.get("id")): id for c, id in zip(message["tool_calls"], ids, strict=True)}
            changed["tool_calls"] = [{**c, "id": id} for c, id in zip(message["tool_calls"], ids, strict=True)]
        if message.get("tool_call_id"):
            changed["tool_call_id"] = known.get(str(message["tool_call_id"]), message["tool_call_id"])
        numbered.append(changed)
    return numbered


def thoughts_before_calls(messages: Conversation) -> Conversation:
    """Thoughts that led to a call under the name that gpt-oss' template reads; what is said beside a call is shown as
    the thought, and the template takes only one of them."""
    return [
        {**message, "thinking": message["reasoning_content"]}
        if message.get("tool_calls") and message.get("reasoning_content") and not message.get("content")
        else message
        for message in messages
    ]


def system_first(messages: Conversation) -> Conversation:
    """One system message at the front: all of them before the assistant's first turn, in order. Later ones become the
    user's, where they stand: so the beginning of a prompt stays the same in the next turn, and is found in the
    cache."""
    roles = [message["role"] for message in messages]
    opening = roles.index("assistant") if "assistant" in roles else len(roles)
    system = [message for message in messages[:opening] if message["role"] in _SYSTEM]
    others = [message for message in messages[:opening] if message["role"] not in _SYSTEM]
    later = [_as_user(message) if message["role"] in _SYSTEM else message for message in messages[opening:]]
    return [*_joined_system(system), *others, *later]


def _as_user(message: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": message.get("content") or ""}


def _joined_system(system: Conversation) -> Conversation:
    if not system:
        return []
    return [{"role": "system", "content": _paragraphs(*(message.get("content") for message in system))}]


def _paragraphs(*texts: Any) -> str:
    return "\n\n".join(str(text) for text in texts if text)


def neighbours_joined(messages: Conversation) -> Conversation:
    """Joins messages of one role beside each other. Calls and their results stay apart: some templates leave out what
    is said beside a call."""
    joined: Conversation = []
    for message in messages:
        if joined and message["role"] == joined[-1]["role"] and not _of_tools(message) and not _of_tools(joined[-1]):
            joined[-1] = _joined(joined[-1], message)
        else:
            joined.append(message)
    return joined


def _of_tools(message: dict[str, Any]) -> bool:
    return message["role"] == "tool" or bool(message.get("tool_calls"))


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    whole = {**second, **first, "content": _paragraphs(first.get("content"), second.get("content"))}
    if thoughts := _paragraphs(first.get("reasoning_content"), second.get("reasoning_content")):
        whole["reasoning_content"] = thoughts
    return whole


def single_calls(messages: Conversation) -> Conversation:
    """One call in a message, and its results right after it."""
    split: Conversation = []
    at = 0
    while at < len(messages):
        message, at = messages[at], at + 1
        if len(message.get("tool_calls") or []) < 2:
            split.append(message)
            continue
        results: Conversation = []
        while at < len(messages) and messages[at]["role"] == "tool":
            results.append(messages[at])
            at += 1
        split += _one_by_one(message, results)
    return split


def _one_by_one(message: dict[str, Any], results: Conversation) -> Conversation:
    turns: Conversation = []
    left = list(results)
    for number, call in enumerate(message["tool_calls"]):
        own = [each for each in left if each.get("tool_call_id") == call.get("id")]
        left = [each for each in left if each not in own]
        turns.append({**message, "content": "" if number else message.get("content"), "tool_calls": [call]})
        turns += own
    return turns + left


def turns_alternating(messages: Conversation) -> Conversation:
    """User and assistant by turns, the user first; calls and their results do not count. What is missing between two
    turns is filled in with a word or two."""
    alternating: Conversation = []
    due = "user"
    for message in messages:
        role = message["role"]
        if role in ("user", "assistant") and not message.get("tool_calls"):
            if role != due:
                alternating.append({"role": due, "content": ASKED if due == "user" else ANSWERED})
            due = "assistant" if role == "user" else "user"
        alternating.append(message)
    return alternating


def system_in_user(messages: Conversation) -> Conversation:
    """The system message as the beginning of the first user's turn, for templates that know no system."""
    if not messages or messages[0]["role"] not in _SYSTEM:
        return messages
    return [_as_user(messages[0]), *messages[1:]]
