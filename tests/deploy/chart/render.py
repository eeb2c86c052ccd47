"""Renders and checks the chart, in the environment of `make charts` (Helm's own library and the Kubernetes schemas).

Reads a list of values (JSON) from standard input; writes for each what Helm made of it: `files` (the manifests' text by
their file), or `refusal`; `invalid` has what the Kubernetes API would refuse. With them `lint`: the linter's findings.
"""

import json
import sys
from pathlib import Path
from typing import Any

import helm_python as helm  # pyright: ignore[reportMissingImports]
import kubernetes_validate  # pyright: ignore[reportMissingImports]
import yaml

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "millstream"
VERSIONS = ("1.30", "1.37")  # the oldest that the chart allows, and the newest known
OF_OTHERS = ("keda.sh/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")  # have schemas of their own


def manifests(files: dict[str, str]) -> list[dict[str, Any]]:
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def invalid(document: dict[str, Any]) -> list[str]:
    if document["apiVersion"].startswith(OF_OTHERS):
        return []
    found: list[str] = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{document['kind']} {document['metadata']['name']} ({version}): {error}")
    return found


def rendered(chart: Any, values: dict[str, Any]) -> dict[str, Any]:
    try:
        files = chart.render(values, name="demo", namespace="llm")
        return {"files": files, "invalid": [each for one in manifests(files) for each in invalid(one)]}
    except helm.HelmError as error:
        return {"refusal": str(error)}


if __name__ == "__main__":
    with helm.Chart.load(str(CHART)) as chart:
        results = [rendered(chart, values) for values in json.load(sys.stdin)]
    json.dump({"lint": helm.lint(str(CHART)), "results": results}, sys.stdout)
