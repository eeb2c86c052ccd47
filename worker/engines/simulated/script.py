"""Scripts: what a request may tell the simulated engine to say, so that everything around a model can be judged apart
from a model's wit.

The prompt's last user message `script: {...}` is played instead of the engine's own tokens:

    text, reasoning, tool_calls     what to say: a string, a string, a list of {"name", "arguments"}
    finish                          "stop" (default) or "length"
    rate                            tokens per second of this sequence alone; 0: as fast as possible
    error                           {"message", "code", "param"}: fail with it
    crash                           true: the process dies; "once": only if no earlier worker made a token of this job
    hang                            true: the whole engine makes no further step
    after                           tokens made before error, crash or hang; default: all that is said

A list of scripts is a conversation: one for each assistant turn since that message, the last one repeated.
"""

import json
from typing import Any, Literal

import msgspec

from millstream.common.chunk import Failure
from millstream.common.errors import BadRequest

PREFIX = "script:"


class ScriptedCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call to make; `arguments` may be an object, or a string that is sent as it is (malformed, say)."""

    name: str
    arguments: dict[str, Any] | str = {}


class ScriptedError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The failure to raise; `code` is one of `common.errors`."""

    message: str = "The script asked for this error."
    code: str = "engine_error"
    param: str | None = None

    def failure(self) -> Failure:
        return Failure(code=self.code, message=self.message, param=self.param)


class SimulatedScript(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One script, as the request gave it."""

    text: str = ""
    reasoning: str | None = None
    tool_calls: list[ScriptedCall] = []
    finish: Literal["stop", "length"] = "stop"
    rate: float | None = None
    error: ScriptedError | None = None
    crash: bool | Literal["once"] = False
    hang: bool = False
    after: int | None = None

    def spoken(self) -> str:
        """Returns all that the script says, in the syntax models of the Hermes family use for reasoning and tool
        calls."""
        thought = "" if self.reasoning is None else f"<think>\n{self.reasoning}\n</think>\n\n"
        return thought + self.text + "".join(_call(call) for call in self.tool_calls)


def parse_script(message: str, turn: int) -> SimulatedScript | None:
    """Returns the script a user message asks for in its `turn`-th answer, or None if it is no script. Agents put words
    of their own around the user's: lines may follow a script that begins the message, and what ends the message, from
    the beginning of a line on, is a script too. Raises `BadRequest` for a script that cannot be read."""
    if message.lstrip().startswith(PREFIX):
        try:
            return _of_turn(_read(_first_value(message.lstrip()[len(PREFIX) :].strip())), turn)
        except msgspec.MsgspecError as error:
            raise BadRequest(f"The simulated engine cannot read this script: {error}.", param="messages") from error
    _, found, last = message.rpartition("\n" + PREFIX)
    try:
        return _of_turn(_read(last.strip()), turn) if found else None
    except msgspec.MsgspecError:
        return None


def _read(written: str) -> SimulatedScript | list[SimulatedScript]:
    return msgspec.json.decode(written, type=SimulatedScript | list[SimulatedScript])


def _first_value(text: str) -> str:
    """Returns the JSON value that a text begins with, without the lines after it; a text that begins with none, or
    goes on in the value's own line, is returned as it is."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return text
    return text[:end] if text[end:].lstrip(" ").startswith("\n") else text


def _of_turn(scripts: SimulatedScript | list[SimulatedScript], turn: int) -> SimulatedScript | None:
    if isinstance(scripts, SimulatedScript):
        return scripts
    return scripts[min(turn, len(scripts) - 1)] if scripts else None


def _call(call: ScriptedCall) -> str:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    name = json.dumps(call.name, ensure_ascii=False)
    return f'\n<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'
