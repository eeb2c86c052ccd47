"""docs/operations.md names every metric there is, and no other."""

import re
from pathlib import Path

from millstream.gateway.http.cluster_metrics import cluster_text
from millstream.gateway.services.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
OF_BATCHES = {"millstream_batches", "millstream_batch_lines"}  # told only where there is a queue to ask


def test_the_page_lists_the_metrics() -> None:
    text = (Metrics().text() + cluster_text([])).decode()
    told = {
        name for name in re.findall(r"^# HELP (millstream_\w+)", text, re.MULTILINE) if not name.endswith("_created")
    }
    assert set(re.findall(r"^\| `(millstream_\w+)`", PAGE.read_text(), re.MULTILINE)) == told | OF_BATCHES
