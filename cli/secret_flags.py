"""Flags whose values nobody else may see: a process's arguments can be read by every user of the machine."""

import os
import sys
from collections.abc import Sequence

from millstream.common.process.command import own_command
from millstream.common.settings import child_environment

SECRETS = {"--upstream-key": "upstream_key"}  # the flag, and the setting that says the same


def hide_secrets() -> None:
    """Starts the command anew without the secrets among its arguments; they are in its environment from then on."""
    words, hidden = secrets_apart(sys.argv[1:])
    if hidden:
        os.execve(sys.executable, own_command(*words), child_environment(**hidden))


def secrets_apart(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the arguments without secrets, and these as settings. A flag without its value stays, to be refused."""
    kept: list[str] = []
    hidden: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag not in SECRETS or not (equals or rest):
            kept.append(word)
        else:
            hidden[SECRETS[flag]] = value if equals else rest.pop(0)
    return kept, hidden
