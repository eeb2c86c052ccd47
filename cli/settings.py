"""Settings of the commands that are not a gateway's or a worker's own."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from millstream.common.process.folders import default_state_dir
from millstream.common.settings import ClusterSettings, HttpUrl, RedisUrl, Settings

EngineName = Literal["auto", "transformers", "vllm", "simulated", "openai"]


class UpSettings(ClusterSettings):
    """A whole cluster in one terminal. Settings of the gateway and the workers reach them through the environment."""

    redis_url: RedisUrl = Field(
        default="",
        description="Use this Redis instead of the embedded Valkey (redis://, rediss://, redis+sentinel://).",
    )
    model: str = Field(
        default="smollm2", description="Hub id, local folder or GGUF file; smollm2 is a sample that needs no hub."
    )
    engine: EngineName = Field(
        default="auto",
        description="What computes: transformers, simulated (no model, for trying things out), or openai (--upstream).",
    )
    upstream: list[str] = Field(
        default=[], description="OpenAI servers that compute (llama.cpp, Ollama, vLLM, ...), such as http://HOST:8080."
    )
    upstream_key: SecretStr | None = Field(
        default=None, description="Their API key. Better in the variable: a flag is seen by others."
    )
    workers: int = Field(default=1, ge=0, description="Worker processes to start.")
    host: str = Field(default="127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the gateway listens on; 0 takes a free one.")
    state_dir: Path = Field(
        default_factory=default_state_dir, description="Folder of the embedded Valkey's data, kept between runs."
    )
    valkey_port: int = Field(
        default=6379, ge=0, le=65535, description="Port of the embedded Valkey; a free one if it is taken."
    )
    drain: float = Field(default=10.0, ge=0, description="Seconds running answers may go on after Ctrl-C.")
    verbose: bool = Field(default=False, description="Show the log of all parts, as where the output is no terminal.")
    log_file: Path | None = Field(
        default=None,
        description="File for the log of all parts (at most 40 MiB with the one before it). Unset: on a terminal "
        "log/up.log in the state folder, elsewhere standard error.",
    )


class ClientSettings(Settings):
    """The way in which `chat` and `doctor` reach a gateway."""

    gateway_url: HttpUrl = Field(default="http://127.0.0.1:8000", description="Address of a gateway.")
    api_key: str = Field(default="", description="API key to send, if the gateway wants one.")


class WorkersSettings(ClusterSettings):
    """The choice of workers to list."""

    here: bool = Field(
        default=False, description="Only this machine's; the exit status is 1 when none is alive (a health check)."
    )


class JobsSettings(ClusterSettings):
    """The choice of jobs to list."""

    failed: bool = Field(
        default=False, description="Only those given up because their workers kept dying, with reason and request."
    )


class TopSettings(ClusterSettings):
    """The live view."""

    every: float = Field(default=1.0, gt=0, description="Seconds between two looks.")
    once: bool = Field(default=False, description="Print one look and end, as where the output is no terminal.")


class PolicySettings(ClusterSettings):
    """The routing of a model's jobs, from the next one on."""

    model: str = Field(default="", description="The model.")
    policy: Literal["shortest_queue", "lottery", "prefix", "session"] = Field(
        default="shortest_queue", description="shortest_queue, lottery (random by speed), prefix or session."
    )
    margin: int | None = Field(
        default=None,
        ge=0,
        description="prefix, session: jobs the warm worker may hold above the least loaded one (4); unset: as it is.",
    )
    reserve: int | None = Field(
        default=None, ge=0, description="Slots of each worker that flex and batch jobs leave free (0); unset: as it is."
    )


class LoadSettings(ClusterSettings):
    """A model that is to come or to go."""

    model: str = Field(default="", description="The model.")


class ForgetSettings(ClusterSettings):
    """A model that is not coming back."""

    model: str = Field(default="", description="The model.")


class ModelFilesSettings(Settings):
    """A model's files on this machine."""

    model: str = Field(
        default="", description="A hub id, OWNER/NAME/FILE.gguf, an address of a GGUF file, or a folder."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit; unset: the newest one.")
    source: Literal["hub", "modelscope"] = Field(default="hub", description="Where the id is looked up.")


class KeyTerms(ClusterSettings):
    """The terms of a key. In `limit`, what is not given stays as it is; 0 lifts a limit."""

    tenant: str | None = Field(
        default=None,
        description="Who pays: keys of one tenant share its place in the queue. Unset, a new key is a tenant itself.",
    )
    weight: float | None = Field(default=None, gt=0, description="Share among waiting tenants: 2 gets twice of 1.")
    ceiling: Literal["priority", "default", "flex", "batch"] | None = Field(
        default=None, description="The highest tier it is served in."
    )
    models: list[str] | None = Field(default=None, description="Models it may use; `*`, or unset when it is made: all.")
    requests_per_minute: int | None = Field(default=None, ge=0, description="Requests a minute.")
    tokens_per_minute: int | None = Field(default=None, ge=0, description="Tokens a minute, of prompts and answers.")
    concurrent: int | None = Field(default=None, ge=0, description="Requests at once, waiting ones included.")
    tokens_per_day: int | None = Field(default=None, ge=0, description="Tokens a day (UTC).")
    tokens_per_month: int | None = Field(default=None, ge=0, description="Tokens a month (UTC).")


class LimitSettings(KeyTerms):
    """A key and its new terms."""

    id: str = Field(default="", description="The key's id, as `keys list` shows it.")


class RevokeSettings(ClusterSettings):
    """A key to refuse from now on."""

    id: str = Field(default="", description="The key's id, as `keys list` shows it.")


class BatchesSettings(ClusterSettings):
    """The way to show the batches."""

    watch: bool = Field(default=True, description="On a terminal: go on showing them until all are over.")


class ChatSettings(ClientSettings):
    """A conversation in the terminal."""

    model: str = Field(default="", description="Model to talk to; empty: the first one the gateway lists.")
    system: str = Field(default="", description="System message to begin with.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="Randomness; 0 is greedy.")
    max_tokens: int | None = Field(default=None, ge=1, description="Longest answer, in tokens.")
    stats: bool = Field(default=False, description="Tell each answer's tokens, time to the first one, and tokens/s.")


class DoctorSettings(ClusterSettings, ClientSettings):
    """The things that `doctor` looks at."""

    ask: bool = Field(default=False, description="Also send each model a short message through the queue.")
