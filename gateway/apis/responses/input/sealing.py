"""Thoughts and summaries that a client which keeps its own conversation carries for us, encoded but not secret."""

import base64
import binascii

SEAL = "millstream:"


def sealed(text: str) -> str:
    """Returns the text as `encrypted_content`. The client may see an open model's thoughts anyway."""
    return SEAL + base64.b64encode(text.encode()).decode()


def unsealed(value: str) -> str | None:
    """Returns the text that `sealed` encoded; None for what was made elsewhere, which nobody here can read."""
    if not value.startswith(SEAL):
        return None
    try:
        return base64.b64decode(value.removeprefix(SEAL), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
