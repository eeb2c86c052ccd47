"""Starting this very program again: its command line, and the machine it runs on."""

import platform
import sys
from pathlib import Path

import millstream


def own_command(*arguments: str) -> list[str]:
    """Returns the command line that runs `millstream ARGUMENTS` with this very installation, whatever the working
    directory."""
    return own_python("from millstream.cli.main import main; main()", *arguments)


def own_python(code: str, *arguments: str) -> list[str]:
    """Returns the command line that runs `code` beside this very installation: -P keeps a `millstream` folder of the
    user's out, the folder appended is the one this package was imported from."""
    root = str(Path(millstream.__file__).parent.parent)
    return [sys.executable, "-P", "-c", f"import sys; sys.path.append({root!r}); {code}", *arguments]


def host_name() -> str:
    """Returns the name of this machine, as workers call it in their heartbeat."""
    return platform.node()
