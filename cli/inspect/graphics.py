"""The machine's NVIDIA cards, as `nvidia-smi` tells them, and whether the installed torch can use them. torch itself is
not imported, because that takes seconds."""

import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from millstream.cli.inspect.finding import DoctorFinding

PATIENCE = 20.0  # seconds: a driver that has hung answers never
QUERY = "--query-gpu=index,name,driver_version,memory.total,memory.free"
_NEWEST = re.compile(r"CUDA Version:\s*([\d.]+)")
_BUILT = re.compile(r"^cuda\b[^=]*=\s*'([\d.]+)'", re.MULTILINE)


def graphics() -> Iterator[DoctorFinding]:
    """Tells cards, driver and free memory, and a torch that does not fit them."""
    try:
        listed, told = _asked(QUERY, "--format=csv,noheader,nounits"), _asked()
    except FileNotFoundError:
        yield DoctorFinding("good", "GPU: no NVIDIA card is known here (there is no nvidia-smi)")
        return
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stdout", None) or error).strip().partition("\n")[0]
        yield DoctorFinding("bad", f"GPU: nvidia-smi fails: {said}", "Mend or reload the NVIDIA driver.")
        return
    cards = [line.split(", ") for line in listed.splitlines() if line.count(", ") == 4]
    for index, name, driver, total, free in cards:
        yield DoctorFinding("good", f"GPU {index}: {name}, driver {driver}, {free} of {total} MiB free")
    newest = _NEWEST.search(told)
    if cards and find_spec("torch") is not None:
        yield from mismatch(built_for(), newest[1] if newest else "")


def _asked(*arguments: str) -> str:
    command = ["nvidia-smi", *arguments]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=True
    ).stdout


def built_for() -> str:
    """Returns the version of CUDA that the installed torch was built for; empty for one that was built without."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        found = _BUILT.search((Path(spec.origin).parent / "version.py").read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[1] if found else ""


def mismatch(built: str, newest: str) -> Iterator[DoctorFinding]:
    """Compares torch's CUDA with the newest that the driver knows. Within a major version any driver will do."""
    if not built:
        remedy = "Install torch from PyTorch's index for CUDA, or choose --device cpu knowingly."
        yield DoctorFinding("bad", "GPU: the installed torch was built without CUDA, so the cards are not used", remedy)
    elif newest and int(built.partition(".")[0]) > int(newest.partition(".")[0]):
        remedy = f"Update the driver, or install a torch for CUDA {newest.partition('.')[0]}."
        yield DoctorFinding("bad", f"GPU: torch was built for CUDA {built}; the driver knows up to {newest}", remedy)
    else:
        yield DoctorFinding("good", f"GPU: torch for CUDA {built}, the driver knows up to {newest or '?'}")
