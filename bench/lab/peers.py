"""Other gateways in front of the baseline, each in its own environment: LiteLLM's proxy, vllm-router, sglang-router.

They are installed from PyPI on first use, in bounded time; what cannot be installed or started is left out, and said.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from millstream.bench.command.settings import BenchSettings
from millstream.bench.harness.cluster import MODEL, Running, process, until_it_answers
from millstream.common.broker.embedded import free_port
from millstream.common.errors import Unavailable

INSTALL_PATIENCE = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Peer:
    """`command` gives its command line: environment's folder, its port, the baseline's base URL, a spare port."""

    name: str
    package: str
    command: Callable[[Path, int, str, int], list[str]]


def _litellm(folder: Path, port: int, baseline: str, spare: int) -> list[str]:
    config = folder / "config.yaml"  # JSON is YAML
    model = {"model": f"openai/{MODEL}", "api_base": baseline, "api_key": "none"}
    models = [{"model_name": MODEL, "litellm_params": model}]
    unsafe = {"dangerously_permit_weak_or_unset_master_key": True}  # else it wants a key for an address on loopback
    config.write_text(json.dumps({"model_list": models, "general_settings": unsafe}))
    return [str(folder / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]


def _router(program: str) -> Callable[[Path, int, str, int], list[str]]:
    def command(folder: Path, port: int, baseline: str, spare: int) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(spare), "--log-level", "error"]
        program_path = [str(folder / "bin" / "python"), "-m", f"{program}.launch_router"]
        return [*program_path, *where, "--policy", "round_robin", "--worker-urls", baseline.removesuffix("/v1")]

    return command


PEERS: Sequence[Peer] = (
    Peer("litellm", "litellm[proxy]", _litellm),
    Peer("vllm-router", "vllm-router", _router("vllm_router")),
    Peer("sglang-router", "sglang-router", _router("sglang_router")),
)


async def install(peer: Peer, folder: Path) -> None:
    """Installs the peer, unless it is there. Raises `Unavailable`."""
    done = folder / "installed"
    if done.exists():
        return
    await _said_well([sys.executable, "-m", "venv", str(folder)])
    await _said_well([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", peer.package])
    done.touch()


async def _said_well(command: Sequence[str]) -> None:
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(INSTALL_PATIENCE):
            _, said = await child.communicate()
    except TimeoutError as error:
        child.kill()
        await child.wait()
        raise Unavailable(f"{command[0]} took longer than {INSTALL_PATIENCE:.0f} s.") from error
    if child.returncode:
        raise Unavailable(said.decode(errors="replace").strip().splitlines()[-1])


@asynccontextmanager
async def running(peer: Peer, folder: Path, baseline: Running) -> AsyncGenerator[Running]:
    """Starts the peer in front of the baseline server, answering. Raises `Unavailable`."""
    port = free_port()
    async with process(peer.command(folder, port, baseline.url, free_port())) as child:
        await until_it_answers(f"http://127.0.0.1:{port}/health/liveliness", child, 60, any_status=True)
        await _until_it_streams(f"http://127.0.0.1:{port}/v1")
        yield Running(f"http://127.0.0.1:{port}/v1", {peer.name: [child.pid]})


async def _until_it_streams(url: str) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "stream": True}
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        said = ""
        for _ in range(60):
            reply = await client.post(f"{url}/chat/completions", json=body)
            if reply.status_code == 200 and "data:" in reply.text:
                return
            said = f"status {reply.status_code}, {reply.text[:200]}"
            await asyncio.sleep(0.5)
    raise Unavailable(f"{url} does not stream: {said}")


def light(settings: BenchSettings) -> BenchSettings:
    """Returns a load a slow gateway can finish in bounded time: what does not fit its speed only shows as fewer
    tokens/s."""
    return settings.model_copy(update={"output_tokens": max(8, settings.output_tokens // 4)})
