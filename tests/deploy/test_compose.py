"""docker-compose.yml: valid by the specification's schema, and meaning what the README says."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from millstream.cli.settings import DoctorSettings
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.settings import GatewaySettings
from millstream.worker.settings import WorkerSettings
from tests.harness.answering import answering

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
FIXED = {  # what the file decides whatever the user's .env says
    *("MILLSTREAM_LOG_FORMAT", "MILLSTREAM_GATEWAY_URL", "MILLSTREAM_HOST", "MILLSTREAM_PORT"),
    *("MILLSTREAM_METRICS_HOST", "MILLSTREAM_METRICS_PORT"),
}
OURS = ["gateway", "worker", "worker-vllm", "worker-gpu", "background"]


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit == "m" else 1)


def specification() -> jsonschema.Draft7Validator:
    """The schema, with what Compose 2.24 has added: a file of variables that need not be there."""
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    one = {"type": "object", "additionalProperties": False, "required": ["path"]}
    one["properties"] = {"path": {"type": "string"}, "required": {"type": "boolean"}}
    service = schema["definitions"]["service"]["properties"]
    service["env_file"] = {"oneOf": [service["env_file"], {"type": "array", "items": one}]}
    return jsonschema.Draft7Validator(schema)


def test_it_follows_the_specification() -> None:
    specification().validate(FILE)


def test_the_schema_would_notice_a_mistake() -> None:
    mistakes = ({"healtcheck": {}}, {"depends_on": {"redis": {"condition": "up"}}}, {"restart": 5})
    for mistake in (*mistakes, {"env_file": [{"required": False}]}):
        with pytest.raises(jsonschema.ValidationError):
            specification().validate({"services": {"worker": mistake}})


def test_the_services_and_their_profiles() -> None:
    assert set(SERVICES) == {"redis", *OURS}
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {
        "redis": [], "gateway": [], "worker": [], "worker-vllm": ["gpu"], "worker-gpu": ["gpu-transformers"],
        "background": [],
    }  # fmt: skip


def test_nothing_prevents_more_workers() -> None:
    for name in ("worker", "worker-vllm", "worker-gpu"):
        assert not {"container_name", "ports", "hostname", "network_mode"} & set(SERVICES[name])


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_each_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", OURS)
def test_ours_wait_for_a_healthy_redis_and_have_no_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_ours_are_built_here_and_write_only_to_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["pull_policy"] == "build" and service["build"]
    assert service["read_only"] is True and service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", OURS)
def test_the_build_passes_on_what_the_images_labels_say(name: str) -> None:
    arguments = SERVICES[name]["build"]["args"]
    text = (ROOT / SERVICES[name]["build"]["dockerfile"]).read_text()
    for argument in ("VERSION", "REVISION", "SOURCE"):
        assert arguments[argument] == f"${{IMAGE_{argument}:-unknown}}"
        assert f"\nARG {argument}=" in text
    assert set(arguments) <= set(re.findall(r"^ARG (\w+)=", text, re.M))


@pytest.mark.parametrize("name", OURS)
def test_every_setting_in_the_users_file_reaches_them(name: str) -> None:
    assert SERVICES[name]["env_file"] == [{"path": ".env", "required": False}]
    fixed = {variable for variable, value in SERVICES[name]["environment"].items() if "${" not in str(value)}
    assert fixed <= FIXED


def test_the_gateways_check_is_red_while_redis_is_away() -> None:
    """The check as the file has it, against what `/ready` says: neither a missing worker nor a proxy turns it red."""
    check = SERVICES["gateway"]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]
    for body, status in (('{"redis": true, "workers": 0}', 0), ('{"redis": false, "workers": 0}', 1)):
        with answering(body, 503) as port:
            code = check[3].replace("8000", str(port))
            done = subprocess.run([sys.executable, "-c", code], env={"http_proxy": "http://127.0.0.1:9"}, check=False)
        assert done.returncode == status


def test_a_stop_gives_them_their_drain_window() -> None:
    assert seconds(SERVICES["gateway"]["stop_grace_period"]) > GatewaySettings.model_fields["drain"].default
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > WorkerSettings.model_fields["drain"].default


def test_gateway_and_background_see_the_same_files() -> None:
    for name in ("gateway", "background"):
        assert SERVICES[name]["volumes"] == ["files:/home/millstream/files"]


def test_redis_keeps_what_it_acknowledged() -> None:
    command = SERVICES["redis"]["command"]
    for setting in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"):
        assert setting in command
    assert SERVICES["redis"]["volumes"] == ["redis-data:/data"]
    assert set(FILE["volumes"]) == {"redis-data", "model-cache", "files"}


def test_without_keys_only_this_machine_reaches_the_gateway() -> None:
    gateway = SERVICES["gateway"]
    assert all(port.startswith("127.0.0.1:") for port in gateway["ports"])
    assert not any("ports" in service for name, service in SERVICES.items() if name != "gateway")
    assert gateway["environment"]["MILLSTREAM_HOST"] == "0.0.0.0"
    assert gateway["environment"]["MILLSTREAM_API_KEYS"] == "${MILLSTREAM_API_KEYS:-[]}"
    assert gateway["environment"]["MILLSTREAM_INSECURE_NO_AUTH"] == "${MILLSTREAM_INSECURE_NO_AUTH:-true}"


@pytest.mark.parametrize("name", OURS)
def test_what_is_set_is_a_setting(name: str) -> None:
    fields = {
        f"MILLSTREAM_{field}".upper()
        for settings in (GatewaySettings, WorkerSettings, BackgroundSettings, DoctorSettings)
        for field in settings.model_fields
    }
    ours = {variable for variable in SERVICES[name]["environment"] if variable.startswith("MILLSTREAM_")}
    assert ours <= fields


def test_the_example_names_every_variable_of_the_file_and_no_other() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    shown = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    assert shown == used
