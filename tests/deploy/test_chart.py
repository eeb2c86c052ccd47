"""The Helm chart: what it renders is what Kubernetes takes and what our processes understand. No cluster runs here."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from millstream.cli.settings import DoctorSettings
from millstream.common.broker.connection.model_servers import read_places
from millstream.common.settings import Settings
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.settings import GatewaySettings
from millstream.worker.settings import WorkerSettings
from tests.deploy.chart.matrix import GOOD, REFUSED
from tests.deploy.queries import metrics_in, of_the_autoscaler

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "millstream"
METRICS = (ROOT / "docs" / "operating" / "metrics.md").read_text()
TEMPLATES = "".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SETTINGS: dict[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "background": BackgroundSettings,
}
HELM = ROOT / ".charts" / "venv" / "bin" / "python"
helm_here = pytest.mark.skipif(not HELM.exists(), reason="Helm's library is not installed: make charts")
Manifest = dict[str, Any]


def variables(settings: type[Settings]) -> set[str]:
    return {f"MILLSTREAM_{name.upper()}" for name in settings.model_fields}


# ------------------------------------------------------------------------------------------------ without Helm


def test_the_chart_has_the_projects_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_values_are_those_of_their_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(VALUES, schema)
    assert set(VALUES) | {"global"} == set(schema["properties"])


def test_every_value_is_used() -> None:
    def leaves(values: dict[str, Any], before: str = "") -> Iterator[str]:
        for name, value in values.items():
            if isinstance(value, dict) and value and name != "resources":
                yield from leaves(value, f"{before}{name}.")
            else:
                yield f"{before}{name}"

    used = {path.rpartition(".")[2] for path in re.findall(r"\.[a-zA-Z.]+", TEMPLATES)}
    assert not [path for path in leaves(VALUES) if path.rpartition(".")[2] not in used]


def test_every_variable_set_is_a_setting() -> None:
    known = set[str]().union(*map(variables, (*SETTINGS.values(), DoctorSettings)))
    named = set(re.findall(r"MILLSTREAM_[A-Z_]+\b", TEMPLATES)) - {"MILLSTREAM_"}
    assert len(named) > 15 and not named - known


def test_the_autoscaler_asks_for_metrics_that_there_are() -> None:
    named = set[str]().union(*map(metrics_in, of_the_autoscaler("chat")))
    assert named == {"millstream_model_backlog_seconds", "millstream_worker_load"}
    assert named <= set(re.findall(r"^\| `(millstream_\w+)`", METRICS, re.MULTILINE))


# --------------------------------------------------------------------------------------------------- with Helm


@cache
def helm() -> dict[str, Any]:
    """Returns what Helm makes of the matrix: one process renders all of it."""
    asked = [*GOOD.values(), *(values for values, _ in REFUSED.values())]
    command = [str(HELM), str(Path(__file__).parent / "chart" / "render.py")]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def result(case: str) -> dict[str, Any]:
    return helm()["results"][[*GOOD, *REFUSED].index(case)]


def manifests(case: str) -> list[Manifest]:
    files: dict[str, str] = result(case)["files"]
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def one(case: str, kind: str, name: str = "") -> Manifest:
    [found] = [each for each in manifests(case) if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    return found


def pods(case: str) -> Iterator[tuple[str, Manifest]]:
    """Yields each pod's part (gateway, worker, …) and its spec."""
    for manifest in manifests(case):
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            template = manifest["spec"]["template"]
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def environment(pod: Manifest) -> dict[str, str]:
    """The variables whose value the chart knows, expanded as Kubernetes does; those of Secrets get one that is
    possible."""
    told: dict[str, str] = {}
    for each in pod["containers"][0]["env"]:
        value = each.get("value", "redis://:secret@h:6379" if "URL" in each["name"] else "x")
        told[each["name"]] = re.sub(r"\$\((\w+)\)", lambda name: told[name[1]], value)
    return told


@helm_here
def test_the_linter_finds_no_error() -> None:
    lint = helm()["lint"]
    assert not lint["errors"] and all(message["severity"] <= 1 for message in lint["messages"])


@helm_here
@pytest.mark.parametrize("case", GOOD)
def test_kubernetes_takes_every_manifest(case: str) -> None:
    assert not result(case).get("refusal")
    assert result(case)["invalid"] == []
    schemas = json.loads((Path(__file__).parent / "chart" / "crds.json").read_text())
    for manifest in manifests(case):
        if manifest["kind"] in schemas:
            jsonschema.validate(manifest["spec"], schemas[manifest["kind"]])


@helm_here
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_and_says_what_would_be_right(case: str) -> None:
    assert REFUSED[case][1] in result(case).get("refusal", "")


@helm_here
@pytest.mark.parametrize("case", GOOD)
def test_no_pod_may_anything_or_is_linked_to_services(case: str) -> None:
    for _, pod in pods(case):
        security, container = pod["securityContext"], pod["containers"][0]["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0
        assert container["readOnlyRootFilesystem"] is True and container["allowPrivilegeEscalation"] is False
        assert container["capabilities"] == {"drop": ["ALL"]}
        assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
    assert {pod["securityContext"]["runAsUser"] for part, pod in pods(case) if part != "redis"} <= {10001}


@helm_here
@pytest.mark.parametrize("case", GOOD)
def test_our_processes_understand_their_variables_and_leave_in_time(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, pod in pods(case):
        if part in SETTINGS:
            for name, value in environment(pod).items():
                monkeypatch.setenv(name, value)
            chosen = SETTINGS[part]()
            hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert pod["terminationGracePeriodSeconds"] > getattr(chosen, "drain", 0) + hook
            monkeypatch.undo()


@helm_here
@pytest.mark.parametrize("case", GOOD)
def test_a_service_leads_to_pods_and_a_policy_to_its_ports(case: str) -> None:
    """Whatever selects pods, selects some: Services, budgets, policies, and the monitor its Service."""
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in manifests(case) if "template" in each.get("spec", {})
    ]
    for manifest in manifests(case):
        spec = manifest.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector", {}))
        wanted = selector.get("matchLabels", selector) if manifest["kind"] != "ServiceMonitor" else {}
        if manifest["kind"] == "NetworkPolicy" and not any(wanted.items() <= each.items() for each in labels):
            part = wanted["app.kubernetes.io/component"]
            assert part not in {name for name, _ in pods(case)}, "only of what this release has not"
        elif wanted:
            assert any(wanted.items() <= each.items() for each in labels), manifest["metadata"]["name"]


@helm_here
@pytest.mark.parametrize("part", ["gateway", "worker", "background"])
def test_spans_reach_their_receiver_if_a_value_lets_them(part: str) -> None:
    for case, open_ports in (("open", {4318}), ("settings", set[int]())):
        rules = one(case, "NetworkPolicy", f"-{part}")["spec"]["egress"]
        assert {port["port"] for rule in rules for port in rule["ports"]} & {4318} == open_ports


@helm_here
def test_passwords_are_in_secrets_alone() -> None:
    env = {
        each["name"]: each
        for each in one("password", "Deployment", "-gateway")["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["MILLSTREAM_REDIS_URL"]["value"] == "redis://:$(REDIS_PASSWORD)@demo-millstream-redis:6379/0"
    assert list(env).index("REDIS_PASSWORD") < list(env).index("MILLSTREAM_REDIS_URL"), "else it is not expanded"
    [tls] = [pod for part, pod in pods("tls") if part == "gateway"]
    assert {"name": "redis-ca", "mountPath": "/etc/millstream/redis", "readOnly": True} in tls["containers"][0][
        "volumeMounts"
    ]
    assert not [pod for part, pod in pods("tls") if part == "redis"]


@helm_here
def test_models_on_servers_of_their_own_are_found_by_every_process() -> None:
    places = "llama*=redis://b:6379/0,qwen*=redis://:secret@h:6379,other=redis+sentinel://s-0:6380,s-1:6380/main/0"
    told = {part: environment(pod)["MILLSTREAM_MODEL_REDIS"] for part, pod in pods("servers") if part != "redis"}
    assert told == dict.fromkeys(("gateway", "worker", "background"), places)
    assert [place.pattern for place in read_places(places)] == ["llama*", "qwen*", "other"]
    assert not any("MILLSTREAM_MODEL_REDIS" in environment(pod) for part, pod in pods("default") if part != "redis")
    for case, ports in (("servers", {6379, 6380}), ("default", {6379})):
        rules = one(case, "NetworkPolicy", "-worker")["spec"]["egress"]
        assert {port["port"] for rule in rules for port in rule["ports"]} & {6379, 6380} == ports


@helm_here
def test_later_settings_win() -> None:
    assert [environment(pod)["MILLSTREAM_LEASE"] for part, pod in pods("settings") if part == "gateway"] == ["3"]
    assert [environment(pod)["MILLSTREAM_LEASE"] for part, pod in pods("settings") if part == "worker"] == ["2.5"]


@helm_here
def test_a_model_on_gpus_scales_to_zero_and_never_while_it_works() -> None:
    scaled = one("gpus", "ScaledObject")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 6)
    assert scaled["cooldownPeriod"] > 120, "a drain is longer than the cooldown asked for"
    backlog, busy = (trigger["metadata"]["query"] for trigger in scaled["triggers"])
    assert backlog == 'max(millstream_model_backlog_seconds{model="chat",namespace="llm"})'
    assert 'millstream_worker_load{model="chat",namespace="llm"}' in busy
    target = one("gpus", "Deployment", scaled["scaleTargetRef"]["name"])["spec"]
    assert "replicas" not in target, "an upgrade must not undo what the autoscaler did"
    container = target["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    assert container["image"] == "registry.example.org/team/millstream-worker-gpu:1"
    assert {"name": "MILLSTREAM_TENSOR_PARALLEL", "value": "2"} in container["env"]


@helm_here
def test_nothing_on_the_way_in_holds_events_back() -> None:
    notes = one("open", "Ingress")["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 3600
    assert one("open", "HTTPRoute")["spec"]["rules"][0]["timeouts"] == {"request": "0s"}


@helm_here
def test_a_gateway_is_ready_without_workers_and_alive_without_redis() -> None:
    container = one("default", "Deployment", "-gateway")["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready?workers=0"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert "livenessProbe" not in one("default", "Deployment", "-smollm2")["spec"]["template"]["spec"]["containers"][0]
