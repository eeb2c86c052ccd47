"""Settings of a gateway process. Read once at the composition root; each field is also a flag of the command."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from millstream.common.process.folders import default_files_url
from millstream.common.settings import ClusterSettings
from millstream.common.tracing.settings import TraceSettings


class FilesSettings(ClusterSettings):
    """Settings of the Files API. All gateways and background processes of a cluster must see the same files."""

    heading: ClassVar[str] = "Files"

    files_url: str = Field(
        default_factory=default_files_url,
        description="Where files are kept: a folder, or a URL such as s3://bucket/folder (install millstream[s3]).",
    )
    max_file_bytes: int = Field(default=512 * 2**20, ge=1, description="Largest file that may be uploaded, in bytes.")
    file_ttl: float = Field(
        default=30 * 86400.0, ge=1, description="Seconds a file is kept when its upload does not say (expires_after)."
    )
    max_files: int = Field(default=10_000, ge=0, description="Files of one tenant; 0: no bound.")
    max_files_bytes: int = Field(
        default=16 * 2**30, ge=0, description="Bytes of one tenant's files together; 0: no bound."
    )


class IntakeSettings(FilesSettings, TraceSettings):
    """The settings that a gateway and a background process have in common: the reading of requests, and how many of
    them may wait."""

    heading: ClassVar[str] = "Requests, and how many may wait"

    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, description="Largest request body accepted, in bytes.")
    keep_alive: float = Field(default=15.0, gt=0, description="Seconds of silence after which a stream gets a comment.")
    default_max_tokens: int | None = Field(
        default=None, ge=1, description="Output length when a client sends none; unset: whatever the context has left."
    )
    excess_max_tokens: Literal["refuse", "clamp"] = Field(
        default="refuse",
        description="When a request's max_tokens is more than its context has left: refuse it, or cut the number.",
    )
    max_jobs: int = Field(
        default=256, ge=1, le=4095, description="Most sequences one request may ask for (n x prompts)."
    )
    aliases: list[str] = Field(
        default=[],
        description="Other names of models: `gpt-4o=smollm2-135m-instruct`; `*=name` catches every unknown name.",
    )
    share_prefixes: bool = Field(
        default=False,
        description="Share cached prompt beginnings between tenants too. Faster where they have one system prompt, but "
        "by `cached_tokens` and time a tenant can then find out what another one asked.",
    )
    image_hosts: list[str] = Field(
        default=[],
        description="Hosts from which images that requests name by address are fetched: `img.example.org`, "
        "`*.example.org`, `*` for all public ones; unset: none. A host that is named may be a private one.",
    )
    max_image_bytes: int = Field(default=12 * 2**20, ge=1, description="Largest image shown to a model, in bytes.")
    max_image_pixels: int = Field(default=50_000_000, ge=1, description="The same in pixels.")
    max_waiting: int = Field(default=10_000, ge=0, description="Jobs that may wait for a model; 0: no bound.")
    max_waiting_bytes: int = Field(
        default=256 * 2**20, ge=0, description="Bytes of requests that may wait for a model."
    )
    max_waiting_tenant: int = Field(default=5_000, ge=0, description="Jobs of one tenant that may wait for a model.")
    max_waiting_tenant_bytes: int = Field(default=128 * 2**20, ge=0, description="The same in bytes of requests.")
    forget_models_after: float = Field(
        default=604_800.0,
        ge=0,
        description="Seconds for which a model stays listed that has no worker, nobody who could load it and no job, "
        "so that requests can wait for a worker; 0: for good. `up` with a queue of its own: 60.",
    )
    orphan_grace: float = Field(
        default=30.0, ge=0, description="Seconds the jobs of a dead gateway run on, for clients to come back elsewhere."
    )
    stored_ttl: float = Field(
        default=30 * 86400.0, gt=0, description="Seconds stored completions and responses are kept."
    )
    max_stored: int = Field(
        default=100_000, ge=0, description="Stored completions and responses of one tenant; 0: no bound."
    )
    max_stored_bytes: int = Field(
        default=512 * 2**20, ge=0, description="Their bytes, which lie in Redis; 0: no bound."
    )
    max_batches: int = Field(
        default=10_000, ge=0, description="Batches of one tenant, those included that are over and kept; 0: no bound."
    )


class GatewaySettings(IntakeSettings):
    """The gateway's address, its callers and its limits. Lists are given in the environment with commas or as JSON:
    `MILLSTREAM_API_KEYS=team-a:sk-123,team-b:sk-456`."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; other than loopback only with API keys.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    processes: int = Field(default=1, ge=1, description="Gateway processes that share the port.")
    root_path: str = Field(default="", description="Path prefix under which a proxy serves this gateway.")
    ssl_certfile: Path | None = Field(default=None, description="TLS certificate (PEM); without it plain HTTP.")
    ssl_keyfile: Path | None = Field(default=None, description="TLS private key (PEM).")

    api_keys: list[str] = Field(
        default=[],
        description="Static API keys as `tenant:key`, perhaps with limits (`team-a:sk-1 rpm=60 concurrent=8`). Without "
        "any, only loopback is served. On a command line other users of the machine can read them: there give a file.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="File with static API keys, one a line in the same form; let its owner alone read it."
    )
    admins: list[str] = Field(
        default=["default", "admin"],
        description="Tenants that may load and unload models and see everybody's usage over HTTP; without keys "
        "everybody is `default`.",
    )
    local_workers: bool = Field(
        default=False,
        description="Let the tenants in `admins` kill and drain workers of this machine over HTTP; `millstream up` "
        "sets it.",
    )
    require_keys: bool = Field(
        default=False,
        description="Demand an API key also while none is configured: one made with `millstream keys create`.",
    )
    insecure_no_auth: bool = Field(
        default=False, description="Serve addresses other than loopback without any API key. Anyone can then use it."
    )
    cors_origins: list[str] = Field(default=[], description="Origins whose browser pages may call this API; `*` all.")
    allowed_hosts: list[str] = Field(
        default=[],
        description="Names, beside localhost, that clients of a gateway without keys may ask for (as a proxy's "
        "llm.example.org); `*` all.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of its own for /metrics, without TLS and keys; of several processes each takes the next.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address that the port for /metrics listens on.")

    max_audio_bytes: int = Field(default=25 * 2**20, ge=1, description="Largest recording accepted, in bytes.")
    max_audio_seconds: float = Field(default=3600.0, gt=0, description="Longest recording accepted, in seconds.")
    max_header_bytes: int = Field(default=65536, ge=1024, description="Largest request head accepted, in bytes.")
    head_timeout: float = Field(
        default=60.0, gt=0, description="Seconds a connection may take to send a request's head, or its first byte."
    )
    body_timeout: float = Field(default=60.0, gt=0, description="Seconds between two pieces of a request's body.")
    request_timeout: float = Field(
        default=600.0, gt=0, description="Seconds a request may take when it does not say (header x-request-timeout)."
    )
    max_request_timeout: float = Field(default=86400.0, gt=0, description="Longest x-request-timeout granted, seconds.")
    first_chunk_wait: float = Field(
        default=5.0,
        ge=0,
        description="Seconds a stream's status line waits for the first chunk, so that early failures are HTTP errors.",
    )
    drain: float = Field(default=30.0, ge=0, description="Seconds open streams may go on after a stop signal.")
    resumable: bool = Field(
        default=False,
        description="Keep generating for clients that left, unless their request says otherwise "
        "(header x-millstream-resumable).",
    )
