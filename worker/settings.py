"""Settings of a worker process. Read once at the composition root; each field is also a flag of the command."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from millstream.common.settings import ClusterSettings
from millstream.common.tracing.settings import TraceSettings
from millstream.worker.text.parsers.formats import FormatName


class WorkerSettings(ClusterSettings, TraceSettings):
    """The model that this worker serves, its engine, and the way it leaves."""

    model: str = Field(
        default="smollm2",
        description="What to serve: `smollm2` (sample in a package), a hub id, a local folder or a GGUF file; for the "
        "simulated engine, any name.",
    )
    served_model_name: list[str] = Field(
        default=[], description="Names clients use, the first one also in listings; unset: the model's own."
    )
    embedding_model: str | None = Field(
        default=None, description="An embedding model to serve beside it: `all-minilm-l6-v2` (sample), id or folder."
    )
    on_demand: list[str] = Field(
        default=[],
        description="Further models as `name=id, folder or GGUF file`, loaded when somebody asks for them (or with "
        "`millstream models load`).",
    )
    idle_unload: float = Field(
        default=0.0, ge=0, description="Seconds without a job after which a model loaded on demand goes; 0: never."
    )
    engine: Literal["auto", "transformers", "vllm", "simulated", "openai"] = Field(
        default="auto",
        description="What computes: vLLM where it is installed beside a GPU, else transformers (`auto`); or one of the "
        "two; deterministic tokens for load and fault tests; OpenAI servers.",
    )
    engine_args: list[str] = Field(
        default=[],
        description="vLLM's own flags as `key=value`, such as `tensor-parallel-size=2` or `enforce-eager`.",
    )
    upstream: list[str] = Field(
        default=[], description="OpenAI servers that compute instead of an engine here, such as http://127.0.0.1:8080."
    )
    upstream_key: SecretStr | None = Field(
        default=None, description="Their API key. Better in the variable, or in a file: a flag is seen by others."
    )
    upstream_key_file: Path | None = Field(default=None, description="A file that holds their API key.")
    upstream_ca: Path | None = Field(
        default=None, description="Certificates (PEM) that may sign theirs, beside the system's."
    )
    tokenizer: str | None = Field(
        default=None,
        description="With --upstream: the served model's tokenizer (folder, GGUF file or hub id). Text is made here "
        "then, and any answer goes on after a death, where the upstream takes and gives token ids.",
    )
    upstream_wait: float = Field(
        default=300.0, gt=0, description="Seconds an upstream may take to an answer's first sign of life."
    )
    slots: int | None = Field(default=None, ge=1, description="Jobs that run at once; unset: the engine decides.")
    supervise: bool = Field(default=False, description="Restart the worker when it dies and move its jobs at once.")
    drain: float = Field(
        default=30.0, ge=0, description="Seconds running jobs may go on after a stop signal; then they move mid-stream."
    )
    stall: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without a step, with work to do, after which the engine counts as hung.",
    )
    decode_ahead: float = Field(
        default=20.0,
        ge=0,
        description="Seconds the engine goes on while Redis is away; then it pauses until it is back.",
    )

    trace_content: bool = Field(
        default=False, description="Put prompts and answers into the spans of traces, for whoever may read those."
    )

    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    source: Literal["hub", "modelscope"] = Field(default="hub", description="Where model ids are looked up.")
    trust_remote_code: bool = Field(default=False, description="Run code that comes with the model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Weights' number type."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps or xpu.")
    device_map: str | None = Field(default=None, description="Spread over several devices: auto, balanced, ...")
    tensor_parallel: int = Field(
        default=1, ge=1, description="Processes (one a GPU) that share one model, each with a part of every layer."
    )
    max_gpu_memory: str | None = Field(default=None, description="Most memory per GPU, such as 20GiB.")
    quantization: Literal["8bit", "4bit", "int8", "int4"] | None = Field(
        default=None,
        description="Quantise the weights while loading: int8, int4 (GPUs: torchao), 8bit, 4bit (bitsandbytes).",
    )
    adapter: list[str] = Field(
        default=[], description="LoRA adapters served as models of their own beside it, as `name=folder-or-id`."
    )
    chat_template: Path | None = Field(
        default=None,
        description="What is used instead of the model's own template: a Jinja file, or one of alpaca, baichuan, "
        "baichuan2, chatglm, chatglm2, chatglm3, chatml, llama-2, vicuna, zephyr.",
    )
    generation_config: Literal["auto", "none"] = Field(
        default="auto",
        description="Sampling where a request is silent: `auto` as the model's generation_config.json says, `none` as "
        "OpenAI does.",
    )
    max_model_len: int | None = Field(
        default=None, ge=1, description="Longest prompt and completion together, in tokens."
    )
    kv_tokens: int | None = Field(default=None, ge=1, description="Room of the key-value cache, in tokens of all jobs.")
    page_size: int | None = Field(default=None, ge=1, description="Tokens of a cache page.")
    batching: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Run sequences together: `auto` where the architecture allows it; `off` never, which is slower.",
    )
    step_tokens: int | None = Field(
        default=None, ge=1, description="Most tokens in one engine step; long prompts are split."
    )
    prefix_sharing: bool = Field(default=True, description="Share the cache of equal prompt beginnings.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of the engine.")
    tool_parser: FormatName | None = Field(
        default=None, description="How tool calls are written; unset: as the chat template teaches."
    )

    guide_bytes: int = Field(default=1 << 20, ge=1, description="Longest grammar, schema or list of choices, in bytes.")
    guide_depth: int = Field(default=100, ge=1, description="Most levels of a JSON schema that an output must follow.")
    guide_rules: int = Field(
        default=2000, ge=1, description="Most rules of a grammar; most definitions and references of a JSON schema."
    )
    guide_properties: int = Field(default=5000, ge=1, description="Most properties of a JSON schema.")
    guide_strings: int = Field(default=10_000, ge=1, description="Most choices, enum values, or literals of a grammar.")
    guide_regex: int = Field(default=16_384, ge=1, description="Longest regular expression, in characters.")
    guide_seconds: float = Field(default=10.0, gt=0, description="Longest time one guide may take to compile.")
    guide_memory: int = Field(
        default=2048, ge=32, description="MiB of memory that one guide may take while it is compiled on trial."
    )
    guide_compilers: int = Field(
        default=2, ge=1, description="Guides that are compiled at once; of one tenant never more than one."
    )

    simulated_first_token: float = Field(default=0.0, ge=0, description="Simulated engine: seconds to the first token.")
    simulated_rate: float = Field(
        default=0.0, ge=0, description="Simulated engine: tokens/s of one job; 0: as fast as possible."
    )
    simulated_step_tokens: int = Field(default=1, ge=1, description="Simulated engine: tokens of a job in one step.")
    simulated_length: int = Field(default=64, ge=1, description="Simulated engine: tokens when no max_tokens is given.")
