"""Settings every process shares. Frozen, prefix `MILLSTREAM_`, read once at a composition root and passed down."""

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from millstream.common.process.folders import state_dir

KUBERNETES_LINKS = ("tcp://", "udp://", "sctp://")


def as_list(text: str) -> list[Any]:
    """Reads `a,b` or `["a", "b"]`. Raises `ValueError` for JSON that is none."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [part.strip() for part in text.split(",") if part.strip()]


class Variables(EnvSettingsSource):
    """Environment variables, with lists as the flags take them."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return as_list(value)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Passes over what Kubernetes sets for a Service of this name: `MILLSTREAM_PORT=tcp://10.0.0.7:8000`."""
        value, key, is_complex = super().get_field_value(field, field_name)
        foreign = isinstance(value, str) and value.startswith(KUBERNETES_LINKS)
        return None if foreign else value, key, is_complex


class Settings(BaseSettings):
    """The base of all settings."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_", env_ignore_empty=True, frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, Variables(settings_cls)


def _redis_url(url: str) -> str:
    from millstream.common.broker.connection.url import parse  # here: `--help` needs no redis-py

    if url:
        parse(url)
    return url


def _http_url(url: str) -> str:
    """Raises `ValueError` without repeating the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("should be a URL such as http://127.0.0.1:8000")
    return url


def _default_redis_url() -> str:
    """Returns the embedded Valkey of a `millstream up` that runs on this machine's state, else the usual address."""
    from millstream.common.broker.embedded_access import running_url  # here: as above

    state = state_dir()
    return (running_url(state) if state else None) or USUAL_REDIS


def _model_redis(places: str) -> str:
    from millstream.common.broker.connection.model_servers import read_places  # here: as above

    if places:
        read_places(places)
    return places


USUAL_REDIS = "redis://127.0.0.1:6379/0"
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
ModelRedis = Annotated[str, AfterValidator(_model_redis)]


class ClusterSettings(Settings):
    """The settings on which all processes of one cluster must agree. Each field is also a flag of the commands
    (`--redis-url`)."""

    heading: ClassVar[str] = "The cluster (all its processes must agree)"

    redis_url: RedisUrl = Field(
        default_factory=_default_redis_url,
        description="Where the queue lives: redis://, rediss://, unix://, redis+sentinel://host:port,host:port/SERVICE "
        "or redis+cluster://host:port. Unset: that of a `millstream up` on this machine, else 127.0.0.1:6379.",
    )
    model_redis: ModelRedis = Field(
        default="",
        description="Models whose queues live in servers of their own: PATTERN=URL with a comma between two, such as "
        "llama*=redis://b:6379/0,qwen*=redis://c:6379/0. The first pattern that matches counts (* and ?).",
    )
    lease: float = Field(
        default=5.0,
        gt=0,
        description="Heartbeat timeout in seconds: a worker silent for so long is evicted and its jobs move on.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="A job whose workers died so often is failed and kept for an operator."
    )
    fair_after: float = Field(
        default=5.0,
        ge=0,
        description="Seconds that a tenant waits before tenants above their fair share of the slots give some back, in "
        "mid-stream and without loss; 0: never.",
    )
    retention: float = Field(
        default=600.0, gt=0, description="Seconds a finished job and its chunk log are kept, for replay and resumption."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="Logs: readable on a terminal, JSON elsewhere (auto), or always one of the two."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe event logged."
    )


def hand_to_children(variable: str, value: str) -> None:
    """Sets a variable for the processes that are started from now on, and for settings that are read from now on."""
    os.environ[variable] = value


def child_environment(**values: str) -> Mapping[str, str]:
    """Returns our own environment for a child process, with settings changed: `redis_url="..."` is
    MILLSTREAM_REDIS_URL."""
    return {**os.environ, **{f"MILLSTREAM_{name.upper()}": value for name, value in values.items()}}
