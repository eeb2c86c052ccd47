#!/bin/sh
# Build the wheel and the source distribution of the last commit into dist/, and prove them: built twice they are the
# same bytes, `twine check` finds nothing, and what is installed from the wheel into an empty environment runs.
#
#   deploy/release/dist.sh       PYTHON: the interpreter to build with. Asks the package index; 1 GB below a temporary folder.
set -eu
CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
PYTHON=${PYTHON:-python3}
LAB=$(mktemp -d "${TMPDIR:-/tmp}/dist.XXXXXX")
trap 'rm -rf "$LAB"' EXIT
SOURCE_DATE_EPOCH=$(git -C "$CHECKOUT" log -1 --format=%ct)
export SOURCE_DATE_EPOCH

"$PYTHON" -m venv "$LAB/tools"
"$LAB/tools/bin/python" -m pip install --quiet build twine

build() { # build FOLDER: from a copy of the last commit, so that nothing of a working tree gets in
    mkdir -p "$LAB/$1/source"
    git -C "$CHECKOUT" archive HEAD | tar -x -C "$LAB/$1/source"
    "$LAB/tools/bin/python" -m build --outdir "$LAB/$1/out" "$LAB/$1/source" >"$LAB/$1/build.log" 2>&1 ||
        { tail -20 "$LAB/$1/build.log"; exit 1; }
    "$PYTHON" "$CHECKOUT/deploy/release/settle.py" "$LAB/$1/out"/*.tar.gz
}

build first
build second
for file in "$LAB/first/out"/*; do
    cmp "$file" "$LAB/second/out/$(basename "$file")" || { echo "not reproducible: $(basename "$file")"; exit 1; }
done
echo "built twice, the same bytes"
"$LAB/tools/bin/python" -m twine check --strict "$LAB/first/out"/*

"$PYTHON" -m venv "$LAB/user"
wheel=$(ls "$LAB/first/out"/*.whl)
"$LAB/user/bin/python" -m pip install --quiet -c "$CHECKOUT/constraints.txt" "$wheel[all]"
"$LAB/user/bin/python" -m pip install --quiet --no-deps -r "$CHECKOUT/samples.txt"
"$LAB/user/bin/python" "$CHECKOUT/deploy/release/try.py" "$LAB/user/bin/millstream"

mkdir -p "$CHECKOUT/dist"
cp "$LAB/first/out"/* "$CHECKOUT/dist/"
"$CHECKOUT/deploy/release/sbom.sh" "$CHECKOUT/dist/sbom.json" "$LAB/user/bin/python"
(cd "$CHECKOUT/dist" && sha256sum millstream-* sbom.json >SHA256SUMS && cat SHA256SUMS)
