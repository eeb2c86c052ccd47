"""The parts of a cluster as processes of their own, on 127.0.0.1, for as long as a measurement lasts."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey, free_port
from millstream.common.broker.models.directory import census
from millstream.common.errors import Unavailable
from millstream.common.process.command import own_command
from millstream.common.process.leash import leashed
from millstream.common.settings import child_environment

MODEL = "simulated"
START_PATIENCE = 60.0  # seconds until a part must answer
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class ClusterShape:
    """The processes to start. `rate`: tokens/s of each sequence; `step_tokens`: tokens of a sequence in one chunk."""

    gateways: int = 1
    workers: int = 1
    slots: int = 1024
    rate: float = 50.0
    step_tokens: int = 1
    extra: Sequence[str] = ()  # flags of every gateway
    upstream: str = ""  # URL of an OpenAI server in front of which the workers stand
    engine: Sequence[str] = ()  # flags of every worker, for a real engine instead of the simulated one
    patience: float = START_PATIENCE  # seconds until the workers must have signed in


@dataclass(slots=True)
class Running:
    """A server being measured: its base URL, and its processes by name."""

    url: str
    pids: dict[str, list[int]]
    redis_url: str = ""
    all_urls: list[str] = field(default_factory=list[str])


@asynccontextmanager
async def process(command: Sequence[str], **environment: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Starts a child that ends with this block, or with us. It prints nothing but errors."""
    child = await asyncio.create_subprocess_exec(
        *leashed(command, signal.SIGKILL),
        env=child_environment(**{"log_level": "error", **environment}),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        try:
            async with asyncio.timeout(15):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


async def until_it_answers(
    url: str, child: asyncio.subprocess.Process, patience: float = START_PATIENCE, *, any_status: bool = False
) -> None:
    """Waits until GET `url` is 200, or answers at all. Raises `Unavailable`."""
    end = asyncio.get_running_loop().time() + patience
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while asyncio.get_running_loop().time() < end and child.returncode is None:
            try:
                if (await client.get(url)).status_code == 200 or any_status:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
    raise Unavailable(f"{url} did not answer (exit status of its process: {child.returncode}).")


@asynccontextmanager
async def baseline(rate: float = 50.0, slots: int = 1024) -> AsyncGenerator[Running]:
    """Starts the direct server."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "millstream.bench.lab.baseline_server",
        "--port",
        str(port),
        "--rate",
        f"{rate:g}",
        "--slots",
        str(slots),
    ]
    async with process(command) as child:
        await until_it_answers(f"http://127.0.0.1:{port}/health", child)
        yield Running(f"http://127.0.0.1:{port}/v1", {"baseline": [child.pid]})


@asynccontextmanager
async def cluster(shape: ClusterShape) -> AsyncGenerator[Running]:
    """Starts Valkey, gateways and simulated workers, each a process."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="millstream-bench-")))
        valkey = await stack.enter_async_context(EmbeddedValkey(folder))
        gateways = [await stack.enter_async_context(_gateway(valkey.url, shape)) for _ in range(shape.gateways)]
        workers = [await stack.enter_async_context(_worker(valkey.url, shape)) for _ in range(shape.workers)]
        await until_signed_in(valkey.url, shape.workers, shape.patience)
        pids = {
            "gateway": [child.pid for _, child in gateways],
            "redis": [valkey.pid],
            "worker": [child.pid for child in workers],
        }
        urls = [url for url, _ in gateways]
        yield Running(urls[0], pids, valkey.url, urls)


@asynccontextmanager
async def _gateway(redis_url: str, shape: ClusterShape) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    port = free_port()
    command = own_command(
        "gateway", "--port", str(port), "--drain", "1", "--max-waiting", "0", "--max-waiting-tenant", "0", *shape.extra
    )
    async with process(command, redis_url=redis_url) as child:
        await until_it_answers(f"http://127.0.0.1:{port}/health", child)
        yield f"http://127.0.0.1:{port}/v1", child


@asynccontextmanager
async def _worker(redis_url: str, shape: ClusterShape) -> AsyncGenerator[asyncio.subprocess.Process]:
    simulated = ["--simulated-rate", f"{shape.rate:g}", "--simulated-step-tokens", str(shape.step_tokens)]
    engine = ["--engine", "simulated", *simulated]
    if shape.upstream:
        engine = ["--engine", "openai", "--upstream", shape.upstream, "--served-model-name", MODEL]
    if shape.engine:
        engine = [*shape.engine, "--served-model-name", MODEL]
    command = own_command("worker", *engine, "--slots", str(shape.slots), "--drain", "0")
    async with process(command, redis_url=redis_url) as child:
        yield child


async def until_signed_in(redis_url: str, workers: int, patience: float = START_PATIENCE) -> None:
    end = asyncio.get_running_loop().time() + patience
    async with Broker(redis_url) as broker:
        while sum(len(model.workers) for model in await census(broker)) < workers:
            if asyncio.get_running_loop().time() > end:
                raise Unavailable("The workers did not sign in.")
            await asyncio.sleep(0.1)
