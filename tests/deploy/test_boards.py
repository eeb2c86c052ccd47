"""deploy/prometheus/rules.yml and deploy/grafana: all names they use exist, and a real Prometheus evaluates them."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from millstream.common.broker.embedded import EmbeddedValkey, free_port
from tests.deploy.queries import (
    BOARDS,
    RULES,
    counted_twice,
    labels_in,
    metrics_in,
    of_the_autoscaler,
    panels,
    queries,
    rules,
)
from tests.harness.cluster import MODEL, PATIENCE, Cluster, all_exact, cluster, heard_some
from tests.harness.support import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "metrics.md"
HERE = Path(__file__).parent
MISSING = "is not installed: apt-get install prometheus"
prometheus_here = pytest.mark.skipif(shutil.which("prometheus") is None, reason=f"prometheus {MISSING}")
promtool_here = pytest.mark.skipif(shutil.which("promtool") is None, reason=f"promtool {MISSING}")
OF_PROMETHEUS = {"le", "instance", "job"}
QUIET = {  # what has no samples in a cluster where nothing of the kind has happened
    *("MillstreamFailures", "MillstreamClientsLeave", "MillstreamLostFrames", "overview: Failures A"),
    *("overview: Batches A", "overview: Batches B", "overview: Streams A", "overview: Streams B"),
    *("overview: Tokens by model A", "model: Failover C", "model: Failover D"),
    *("redis: Frames lost and chunks repaired A", "redis: Frames lost and chunks repaired B"),
    "tenant: Waiting jobs A",
}


def test_there_are_boards_with_queries() -> None:
    assert {board.stem for board in BOARDS} == {"overview", "model", "tenant", "redis"}
    for board in BOARDS:
        told = json.loads(board.read_text())
        assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])
        assert all(panel["title"] and panel["targets"] for panel in told["panels"])


def test_no_panel_covers_another() -> None:
    for board in BOARDS:
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in panels(board))
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def listed() -> set[str]:
    return set(re.findall(r"^\| `(millstream_\w+)`", PAGE.read_text(), re.MULTILINE))


def test_every_metric_named_is_one_of_the_page() -> None:
    used = {query.place: metrics_in(query.text) for query in queries()}
    assert all(used.values())
    assert not {place: names - listed() for place, names in used.items() if names - listed()}


def test_what_every_gateway_tells_is_counted_once() -> None:
    """No sum or count sees the series of models, workers and servers but through max or min; see the page."""
    assert not [query.place for query in queries() if counted_twice(query.text)]
    assert counted_twice("sum by (model) (rate(millstream_worker_tokens_total[5m]))") == {
        "millstream_worker_tokens_total"
    }
    assert not counted_twice("sum by (model) (max by (model, worker) (rate(millstream_worker_tokens_total[5m])))")


def test_every_alert_has_its_place_in_the_page_and_none_is_left_there() -> None:
    alerts = {rule["alert"]: rule["annotations"] for rule in rules() if "alert" in rule}
    assert {note["runbook_url"] for note in alerts.values()} == {
        f"docs/operating/metrics.md#{name.lower()}" for name in alerts
    }
    assert set(re.findall(r"^### (Millstream\w+)$", PAGE.read_text(), re.MULTILINE)) == set(alerts)


@promtool_here
def test_the_rules_do_what_they_say() -> None:
    """`rules.test.yml` has series and which alerts they raise."""
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(HERE / "rules.test.yml")]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def prometheus(room: Path, targets: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus that scrapes once a second; yields a client of its API."""
    port = free_port()
    room.mkdir()
    (room / "rules.yml").write_text(RULES.read_text().replace("interval: 15s", "interval: 1s"))
    scrape = {"job_name": "millstream", "static_configs": [{"targets": targets}]}
    each = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = {"global": each, "rule_files": ["rules.yml"], "scrape_configs": [scrape]}
    (room / "prometheus.yml").write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={room}/prometheus.yml",
        f"--storage.tsdb.path={room}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=PATIENCE) as api:
            yield api
    finally:
        process.terminate()
        await process.wait()


async def asked(api: httpx.AsyncClient, text: str) -> list[Any]:
    """The result of a query; a query that is wrong is an error."""
    answer = (await api.get("/query", params={"query": text})).json()
    assert answer["status"] == "success", (text, answer)
    return answer["data"]["result"]


async def scraped(api: httpx.AsyncClient) -> bool:
    try:
        if (await api.get("/query", params={"query": "1"})).status_code != 200:
            return False  # it reads its files first
    except httpx.ConnectError:
        return False
    return len(await asked(api, "up == 1")) == 2


async def quiet(api: httpx.AsyncClient) -> set[str]:
    """The queries that find nothing. A comparison of an alert is left out: what it compares is there."""
    found: set[str] = set()
    for place, text in queries():
        plain = text if ":" in place else re.sub(r" (?:[><]=?|==) [\d.]+(?=\s|$)", "", text)
        if "absent(" not in text and not await asked(api, plain):
            found.add(place)
    return found


async def failover(site: Cluster) -> None:
    """Answers that move in the middle, at two gateways, so that every figure has something to tell."""
    gateways = [part for part in site.fleet.parts if part.url]
    clients = [site.client(gateway, 150) for gateway in gateways for _ in range(3)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    victim = next(part for part in site.fleet.parts if not part.url)
    await victim.kill()
    await all_exact(clients, running)


@prometheus_here
async def test_a_prometheus_evaluates_every_query_on_a_live_cluster(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with cluster(own_valkey, tmp_path) as site:
        await site.broker.redis.config_set("maxmemory", "1gb")  # pyright: ignore[reportUnknownMemberType]
        ports = [free_port(), free_port()]
        for port in ports:
            await site.gateway(metrics_port=str(port))
        for _ in range(2):
            await site.worker()
        targets = [f"127.0.0.1:{port}" for port in ports]
        async with prometheus(tmp_path / "prometheus", targets) as api:
            await wait_until(lambda: scraped(api), within=PATIENCE, what="both gateways are scraped")
            await failover(site)
            await every_query_finds_something(api)
            await every_rule_is_well(api)
            for text in of_the_autoscaler(MODEL):
                assert len(await asked(api, text)) == 1
            await labels_exist(site.http, targets[0])
            [once] = await asked(api, "sum(max by (model, worker) (millstream_worker_slots))")
            [twice] = await asked(api, "sum(millstream_worker_slots)")
            assert float(twice["value"][1]) == 2 * float(once["value"][1])


async def every_query_finds_something(api: httpx.AsyncClient) -> None:
    lacking: set[str] = set()

    async def told() -> bool:
        nonlocal lacking
        lacking = await quiet(api) - QUIET
        return not lacking

    try:
        await wait_until(told, within=PATIENCE, every=0.5)
    except AssertionError:
        raise AssertionError(f"these find nothing: {sorted(lacking)}") from None


async def every_rule_is_well(api: httpx.AsyncClient) -> None:
    groups = (await api.get("/rules")).json()["data"]["groups"]
    told = [rule for group in groups for rule in group["rules"]]
    assert len(told) == len(rules())
    assert {rule["health"] for rule in told} == {"ok"}, [rule for rule in told if rule["health"] != "ok"]


async def labels_exist(http: httpx.AsyncClient, target: str) -> None:
    """Every label that a query uses is a label of one of its metrics: Prometheus itself takes any."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families((await http.get(f"http://{target}/metrics")).text):
        for sample in family.samples:
            labels.setdefault(re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", sample.name), set()).update(
                sample.labels
            )
    for place, text in queries():
        names = metrics_in(text)
        if names <= set(labels):
            known = OF_PROMETHEUS.union(*(labels[name] for name in names))
            assert labels_in(text) <= known, place
