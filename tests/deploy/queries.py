"""The queries of the rules and the boards, as their files have them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
BOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
OF_GRAFANA = {"$__rate_interval": "30s", "$__range": "5m", "$model": ".*", "$tenant": ".*"}
AGGREGATIONS = ("sum", "count", "topk", "avg", "max", "min")
TOLD_BY_EACH = re.compile(r"millstream_(model|worker|redis|batch)")  # gateway process, of the same things


class Query(NamedTuple):
    """One expression, and where it stands."""

    place: str
    text: str


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels(board: Path) -> list[dict[str, Any]]:
    return json.loads(board.read_text())["panels"]


def queries() -> Iterator[Query]:
    """Yields every query, Grafana's variables replaced."""
    for rule in rules():
        yield Query(rule.get("alert") or rule["record"], rule["expr"])
    for board in BOARDS:
        for panel in panels(board):
            for target in panel["targets"]:
                yield Query(f"{board.stem}: {panel['title']} {target['refId']}", adapted(target["expr"]))


def of_the_autoscaler(model: str) -> list[str]:
    """Returns what the chart has KEDA ask about a model."""
    text = (DEPLOY / "helm" / "millstream" / "templates" / "workers.yaml").read_text()
    return [each.replace("%s", f'model="{model}"') for each in re.findall(r'printf "([^"]*millstream_[^"]*)"', text)]


def adapted(text: str) -> str:
    for variable, value in OF_GRAFANA.items():
        text = text.replace(variable, value)
    assert "$" not in text, text
    return text


def metrics_in(query: str) -> set[str]:
    """Returns the metrics that a query names; a histogram by its own name."""
    names = re.findall(r"\bmillstream_\w+", query)
    return {re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name) for name in names}


def labels_in(query: str) -> set[str]:
    """Returns the labels that a query groups by, joins on or selects."""
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
    selected = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", query)
    return {label.strip() for group in grouped for label in group.split(",") if label.strip()} | set(selected)


def counted_twice(query: str) -> set[str]:
    """Returns the metrics that several gateways tell alike and whose innermost aggregation is neither max nor min."""
    open_calls: list[str] = []
    found: set[str] = set()
    for word in re.finditer(r"(\w+)(?: (?:by|on) \([^)]*\))? ?\(|(\()|(\))|(millstream_\w+)", query):
        call, bracket, close, metric = word.groups()
        if close:
            open_calls.pop()
        elif metric and TOLD_BY_EACH.match(metric):
            within = [name for name in open_calls if name in AGGREGATIONS]
            if within and within[-1] not in ("max", "min"):
                found.add(metric)
        elif not metric:
            open_calls.append(call or bracket)
    return found
