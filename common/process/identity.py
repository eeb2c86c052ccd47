"""Names of running processes. Each holds a random incarnation and is never used again after a restart."""

import os
import platform
import re
import secrets


def incarnation(role: str) -> str:
    """Returns `<role>-<host>-<pid>-<random>`, made of letters, digits and dashes only, so that it fits into keys and
    frames."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", platform.node()).strip("-")[:24] or "host"
    return f"{role}-{host}-{os.getpid()}-{secrets.token_hex(4)}"
