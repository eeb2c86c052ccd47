"""Opens the embedded Valkey to whoever can read its password, which lies beside its data, for its owner alone."""

import fcntl
import os
import secrets
from pathlib import Path

FOLDER = "valkey"  # in the folder of Millstream's state
PASSWORD, CONFIG, PORT, LOCK = "password", "valkey.conf", "port", "lock"


def password_of(directory: Path) -> str:
    """Returns the password of the data in a directory, made at the first run. Raises `OSError`."""
    file = directory / PASSWORD
    if not file.exists() or not file.read_text().strip():
        _write_private(file, secrets.token_urlsafe(32))
    return file.read_text().strip()


def private_config(directory: Path) -> Path:
    """Returns a configuration file with the password: on the command line every user of the machine could read it."""
    config, password = directory / CONFIG, password_of(directory)
    _write_private(config, f"requirepass {password}\nmasterauth {password}\n")
    return config


def url_with(password: str, host: str, port: int) -> str:
    """Returns the URL in the form of `redis_url`."""
    return f"redis://:{password}@{host}:{port}/0" if password else f"redis://{host}:{port}/0"


def running_url(state: Path) -> str | None:
    """Returns the URL of the embedded Valkey that runs on this state, for commands of the same user; None if none
    does."""
    directory = state / FOLDER
    try:
        with (directory / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None  # nobody holds it
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        return url_with((directory / PASSWORD).read_text().strip(), "127.0.0.1", int((directory / PORT).read_text()))
    except (OSError, ValueError):
        return None


def _write_private(file: Path, text: str) -> None:
    """Whole or not at all, and never readable by others."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    draft.replace(file)
