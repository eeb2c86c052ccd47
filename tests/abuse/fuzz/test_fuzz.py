"""Schemathesis against every route of `/openapi.json`, Ollama's and Anthropic's too: no 5xx, no status and no content
type that the document does not tell, nothing accepted that it forbids. Opt in with `make fuzz`."""

import asyncio
import json
import os
from pathlib import Path

import httpx
import pytest

from tests.harness.cluster import MODEL, PATIENCE, Cluster

HERE = Path(__file__).parent
PROGRAM = HERE.parents[2] / ".fuzz" / "venv" / "bin" / "schemathesis"
pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not PROGRAM.exists(), reason="make fuzz installs Schemathesis"),
]
SECONDS = os.environ.get("MILLSTREAM_FUZZ_SECONDS", "600")
# What the document cannot say: which texts are a model's tokens, which tool answers which call.
NOT_CHECKED = "positive_data_acceptance,ignored_auth"
KEY = {"Authorization": "Bearer sk-of-the-fuzzer"}  # without one, the first key that it creates would shut it out
ENDLESS = "/v1/cluster/events"  # a stream that ends with its reader only
UNREADY = "/ready"  # a 503 is what it is asked for
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Why do mills need streams?"}]}


async def known(url: str) -> dict[str, str]:
    """Makes one object of each kind and returns their ids, by the names of fields and path parameters."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, headers=KEY) as http:

        async def made(path: str, **options: object) -> str:
            answer = await http.post(path, **options)  # type: ignore[arg-type]
            return str(answer.raise_for_status().json()["id"])

        line = json.dumps({"custom_id": "line", "method": "POST", "url": "/v1/chat/completions", "body": CHAT})
        upload = {"files": {"file": ("in.jsonl", line.encode())}, "data": {"purpose": "batch"}}
        file = await made("/v1/files", **upload)
        order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        response = await made("/v1/responses", json={"model": MODEL, "input": "hello"})
        return {
            "model": MODEL,
            "id": await made("/v1/chat/completions", json={**CHAT, "store": True}),
            "response_id": response,
            "previous_response_id": response,
            "file_id": file,
            "input_file_id": file,
            "batch_id": await made("/v1/batches", json=order),
        }


@pytest.mark.parametrize("phases", ["examples,fuzzing,stateful", "coverage"])
async def test_no_request_breaks_the_gateway(site: Cluster, tmp_path: Path, phases: str) -> None:
    gateway = await site.gateway(api_keys="admin:sk-of-the-fuzzer")
    await site.worker(simulated_rate="1000", simulated_length="20", slots="64")
    await site.fleet.background()
    command = [str(PROGRAM), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{gateway.url}/openapi.json"]
    command += [
        "--exclude-path",
        ENDLESS,
        "--exclude-path",
        UNREADY,
        *(word for name in KEY for word in ("-H", f"{name}: {KEY[name]}")),
    ]
    bounds = ["--phases", phases, "--max-time", SECONDS, "--request-timeout", "30"]
    ways = ["--suppress-health-check", "all", "--no-shrink", "--continue-on-failure", "--exclude-checks", NOT_CHECKED]
    hooks = {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(HERE)}
    process = await asyncio.create_subprocess_exec(
        *command,
        *bounds,
        *ways,
        cwd=tmp_path,
        env={**os.environ, **hooks, "MILLSTREAM_FUZZ_IDS": json.dumps(await known(gateway.url))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    print(said.decode())
    assert process.returncode == 0
    assert gateway.alive
    assert not gateway.told("request_crashed")
