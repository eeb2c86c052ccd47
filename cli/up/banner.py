"""The words `up` ends its start with: where it is, what it serves, and a line to paste."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from millstream.common.broker.connection.url import without_secrets
from millstream.common.broker.models.directory import ModelInfo

QUESTION = "What is the capital of France?"


def example_model(models: Sequence[ModelInfo]) -> str:
    """Returns a model the line can talk to: an embedding model may stand beside it, and first in the alphabet."""
    return next((info.name for info in models if "chat" in info.capabilities), "MODEL")


def curl_line(base_url: str, model: str, *, needs_key: bool = False, insecure: bool = False) -> str:
    """Returns a shell line that streams one answer; one line, quoted for any POSIX shell."""
    body = {"model": model, "stream": True, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
    words = ["curl", "-sSN", *(["-k"] if insecure else []), f"{base_url}/v1/chat/completions"]
    words += ["-H", "Content-Type: application/json"]
    key = ' -H "Authorization: Bearer $MILLSTREAM_API_KEY"' if needs_key else ""
    return f"{shlex.join(words)}{key} -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"


def banner(
    base_url: str,
    redis_url: str,
    models: Sequence[ModelInfo],
    curl: str,
    *,
    password_file: Path | None = None,
    log: Path | None = None,
) -> str:
    """All of it, as lines. `password_file`: where the queue's password lies, for `redis-cli`. `log`: the file of the
    log, if it is not shown."""
    served = [f"  model    {info.name}  ({info.engine}, context {info.context_length} tokens)" for info in models]
    lines = [
        "",
        "Millstream is ready.",
        f"  address  {base_url}/v1",
        f"  page     {base_url}/",
        *served,
        f"  queue    {without_secrets(redis_url)}",
        *([f"  password {shlex.quote(str(password_file))}, for redis-cli"] if password_file else []),
        *([f"  log      {shlex.quote(str(log))}; --verbose shows it here"] if log else []),
    ]
    return "\n".join([*lines, "", "Try it:", f"  {curl}", "", "Ctrl-C stops everything."])
