"""docs/operating/metrics.md names every metric there is, and no other, each with its type."""

import re
from pathlib import Path

from millstream.gateway.http.backlog_metrics import backlog_text
from millstream.gateway.http.cluster_metrics import cluster_text
from millstream.gateway.http.redis_metrics import redis_text
from millstream.gateway.services.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "metrics.md"
OF_BATCHES = {
    "millstream_batches": "gauge",
    "millstream_batch_lines": "gauge",
}  # told only where there is a queue to ask


def test_the_page_lists_the_metrics() -> None:
    text = (Metrics().text() + cluster_text([]) + backlog_text([], []) + redis_text([])).decode()
    types = dict(re.findall(r"^# TYPE (millstream_\w+) (\w+)", text, re.MULTILINE))
    told = {name: kind for name, kind in types.items() if not name.endswith("_created")}
    listed = dict(re.findall(r"^\| `(millstream_\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE))
    assert listed == told | OF_BATCHES


def test_no_other_page_lists_metrics() -> None:
    pages = [page for page in PAGE.parents[1].rglob("*.md") if page != PAGE]
    assert not [page for page in pages if re.search(r"^\| `millstream_\w+` ", page.read_text(), re.MULTILINE)]
