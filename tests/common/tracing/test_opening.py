"""Traces on or off: flags, OpenTelemetry's own variables, and an installation without the extra."""

import pytest
from pydantic import ValidationError

from millstream.common.tracing import opening
from millstream.common.tracing.opening import traced, traces
from millstream.common.tracing.settings import TraceSettings, receiver_of, service_name

BASE, OWN = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (BASE, OWN, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


def receiver(monkeypatch: pytest.MonkeyPatch, endpoint: str = "", **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return receiver_of(TraceSettings(otlp_endpoint=endpoint))


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("", ""),
        ("http://a:4318", "http://a:4318/v1/traces"),
        ("http://a:4318/", "http://a:4318/v1/traces"),
        ("https://a/otlp/v1/traces", "https://a/otlp/v1/traces"),
    ],
)
def test_the_flag(monkeypatch: pytest.MonkeyPatch, endpoint: str, url: str) -> None:
    assert receiver(monkeypatch, endpoint) == url


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({BASE: "http://b:4318"}, "http://b:4318/v1/traces"),
        ({BASE: "http://b:4318", OWN: "http://c/in"}, "http://c/in"),
        ({BASE: "http://b:4318", "OTEL_SDK_DISABLED": "true"}, ""),
        ({BASE: "http://b:4318", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({BASE: "b:4317"}, ""),
    ],
)
def test_the_variables_of_opentelemetry(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str) -> None:
    assert receiver(monkeypatch, **variables) == url
    assert receiver(monkeypatch, "http://a") == "http://a/v1/traces", "the flag wins"


def test_the_name_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert service_name("worker") == "millstream-worker"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "llm")
    assert service_name("worker") == "llm"


@pytest.mark.parametrize("value", ["collector:4317", "grpc://a", "file:///etc/passwd"])
def test_an_endpoint_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="such as http"):
        TraceSettings(otlp_endpoint=value)


async def test_without_the_extra_the_flag_says_what_to_install_and_the_variable_only_warns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening, "PACKAGE", "opentelemetry_that_is_not_there.exporter")
    assert not traced(TraceSettings())
    with pytest.raises(ValueError, match=r"--otlp-endpoint .* pip install 'millstream\[otel\]'"):
        traced(TraceSettings(otlp_endpoint="http://a"))
    monkeypatch.setenv(BASE, "http://b")
    async with traces(TraceSettings(), "worker", "w") as spans:
        assert spans is None
    assert "millstream[otel]" in capsys.readouterr().out
