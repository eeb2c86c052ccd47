"""Measurements that each need a process of their own."""

import json
import subprocess
import sys
from typing import Any


def result_of(module: str, flags: list[str], called: str) -> Any:
    """Runs a module and returns the JSON of its last line. Ends this process if that one fails; `called` names it."""
    command = [sys.executable, "-m", module, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{called} ended with {done.returncode}.")
    return json.loads(done.stdout.strip().splitlines()[-1])
