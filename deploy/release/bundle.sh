#!/bin/sh
# Collect everything that a machine without a network needs: every wheel, the sample models, the pinned versions and the
# pages, in FOLDER (default: bundle). Then prove it: an environment installed from that folder alone runs.
#
#   deploy/release/bundle.sh [FOLDER]     PYTHON: an interpreter of the version and system that the bundle is for
set -eu
CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
PYTHON=${PYTHON:-python3}
FOLDER=${1:-$CHECKOUT/bundle}
LAB=$(mktemp -d "${TMPDIR:-/tmp}/bundle.XXXXXX")
trap 'rm -rf "$LAB"' EXIT

mkdir -p "$FOLDER/wheels" "$LAB/source"
git -C "$CHECKOUT" archive HEAD | tar -x -C "$LAB/source"
"$PYTHON" -m venv "$LAB/tools"
cd "$LAB/source"
"$LAB/tools/bin/python" -m pip wheel --quiet -c constraints.txt --wheel-dir "$FOLDER/wheels" '.[all]'
"$LAB/tools/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$FOLDER/wheels" -r samples.txt
cp -R constraints.txt samples.txt README.md LICENSE docs "$FOLDER/"
cp deploy/release/try.py "$FOLDER/try.py"
echo "collected $(ls "$FOLDER/wheels" | wc -l) wheels, $(du -sh "$FOLDER" | cut -f1)"

"$PYTHON" -m venv "$LAB/user"
alone="--quiet --no-index --find-links $FOLDER/wheels"
# shellcheck disable=SC2086  # two options
"$LAB/user/bin/python" -m pip install $alone -c "$FOLDER/constraints.txt" 'millstream[all]'
# shellcheck disable=SC2086
"$LAB/user/bin/python" -m pip install $alone --no-deps -r "$FOLDER/samples.txt"
HF_HUB_OFFLINE=1 "$LAB/user/bin/python" "$FOLDER/try.py" "$LAB/user/bin/millstream"
