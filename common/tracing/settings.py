"""Settings of the processes that write spans: where to, and of which requests."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from millstream.common.settings import Settings

TRACES_PATH = "/v1/traces"
SCHEMES = ("http://", "https://")


def _endpoint(url: str) -> str:
    if url and not url.startswith(SCHEMES):
        raise ValueError("expected the http:// or https:// address of an OTLP receiver, such as http://127.0.0.1:4318")
    return url


class TraceSettings(Settings):
    """Settings of traces (OpenTelemetry)."""

    heading: ClassVar[str] = "Traces"

    otlp_endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        default="",
        description="OpenTelemetry receiver that traces go to over OTLP/HTTP, such as http://127.0.0.1:4318 (install "
        "millstream[otel]). Unset: as OTEL_EXPORTER_OTLP_ENDPOINT says; without either nothing is traced.",
    )
    trace_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the requests that are traced, of those whose client does not say (header traceparent).",
    )


class OpenTelemetryVariables(BaseSettings):
    """The variables by which OpenTelemetry's own libraries are told the same. The exporter reads the others itself:
    headers, certificates, timeout, compression."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", env_ignore_empty=True, frozen=True, extra="ignore")

    sdk_disabled: bool = False
    traces_exporter: str = "otlp"
    exporter_otlp_endpoint: str = ""
    exporter_otlp_traces_endpoint: str = ""
    service_name: str = ""

    @property
    def receiver(self) -> str:
        """Returns the address that spans are sent to; empty: nowhere."""
        if self.sdk_disabled or self.traces_exporter != "otlp":
            return ""
        base = self.exporter_otlp_endpoint
        url = self.exporter_otlp_traces_endpoint or (base and base.rstrip("/") + TRACES_PATH)
        return url if url.startswith(SCHEMES) else ""


def receiver_of(settings: TraceSettings) -> str:
    """Returns the address that spans are sent to; empty: nothing is traced."""
    given = settings.otlp_endpoint.rstrip("/")
    if not given:
        return OpenTelemetryVariables().receiver
    return given if given.endswith(TRACES_PATH) else given + TRACES_PATH


def service_name(process: str) -> str:
    """Returns the name under which traces show a process."""
    return OpenTelemetryVariables().service_name or f"millstream-{process}"
