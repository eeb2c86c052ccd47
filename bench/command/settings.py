"""Settings of `millstream bench`; each field is also a flag."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from millstream.common.settings import HttpUrl, Settings


class BenchSettings(Settings):
    """Load on any OpenAI-compatible server, and what it answers."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_BENCH_")

    base_url: HttpUrl = Field(default="http://127.0.0.1:8000/v1", description="The server's OpenAI base URL.")
    api_key: str = Field(default="", description="API key to send, if the server wants one.")
    model: str = Field(default="", description="Model to ask for; empty: the first one the server lists.")
    rate: float = Field(
        default=0.0, ge=0, description="Open loop: requests/s, whatever is answered. 0: closed loop instead."
    )
    arrivals: Literal["poisson", "even"] = Field(
        default="poisson", description="Open loop: times between requests, exponential or all the same."
    )
    concurrency: int = Field(default=16, ge=1, description="Closed loop: requests open at any time.")
    requests: int = Field(default=200, ge=1, description="Requests to send; the run ends after the last answer.")
    duration: float = Field(default=60.0, gt=0, description="Seconds after which no more requests are sent.")
    timeout: float = Field(default=120.0, gt=0, description="Seconds until a request counts as failed.")
    stream: bool = Field(default=True, description="Ask for streams; else for whole answers.")
    dataset: Literal["synthetic", "jsonl", "turns"] = Field(
        default="synthetic", description="Synthetic lengths, a JSONL file, or conversations that share beginnings."
    )
    file: Path | None = Field(
        default=None, description="JSONL: a line each with `messages` or `prompt`, and `max_tokens` if wanted."
    )
    input_words: int = Field(default=64, ge=1, description="Synthetic prompts: words (mean).")
    output_tokens: int = Field(default=64, ge=1, description="Tokens to ask for (mean).")
    spread: float = Field(default=0.0, ge=0, le=1, description="Lengths vary evenly by this share, up and down.")
    turns: int = Field(default=4, ge=1, description="Conversations: user messages in each.")
    system_words: int = Field(default=200, ge=0, description="Conversations: words of the beginning they all share.")
    seed: int = Field(default=0, description="Of lengths, words and arrival times: the same seed, the same load.")
    process: list[str] = Field(
        default=[], description="Whose CPU to count: `name=pid` or `name=text of its command line`; repeatable."
    )
    json_file: Path | None = Field(default=None, description="Write the figures here as JSON.")
    plot_file: Path | None = Field(default=None, description="Draw them here as PNG (needs millstream[bench]).")
