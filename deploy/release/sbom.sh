#!/bin/sh
# Write which Python packages an environment has, as CycloneDX 1.6 in JSON: name, version, licence and package URL of each,
# and what depends on what. CycloneDX's own generator does it, in an environment of its own; asks the package index.
#
#   deploy/release/sbom.sh FILE [ENVIRONMENT]     ENVIRONMENT: the interpreter to look at. PYTHON: the one to make the tool with.
set -eu
CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
PYTHON=${PYTHON:-python3}
TOOL=$CHECKOUT/.sbom/venv
FILE=$1
ENVIRONMENT=${2:-$("$PYTHON" -c 'import sys; print(sys.executable)')}

if [ ! -x "$TOOL/bin/cyclonedx-py" ]; then
    "$PYTHON" -m venv "$TOOL"
    "$TOOL/bin/python" -m pip install --quiet cyclonedx-bom==7.5.0
fi
mkdir -p "$(dirname "$FILE")"
"$TOOL/bin/cyclonedx-py" environment --pyproject "$CHECKOUT/pyproject.toml" --output-reproducible -o "$FILE" "$ENVIRONMENT"
echo "$FILE"
