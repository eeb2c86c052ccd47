"""The diagnosis of a request that waits, and of a cluster that disagrees with itself: pure looks at what Redis told."""

from collections.abc import Iterator, Sequence

from millstream.cli.inspect.finding import DoctorFinding
from millstream.common.broker.connection.broker import RedisCause, RedisTrouble
from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.models.inspection import Queue
from millstream.common.broker.models.policy import Policy
from millstream.common.errors import Unavailable
from millstream.common.job import ModelName

LOWER = ("flex", "batch")
PROCESSOR = ("dtype", "instructions", "bfloat16_fast", "packed_weights")  # of a heartbeat
SKEW = 2.0  # seconds; nothing depends on clocks, but logs of several machines are then read in the wrong order

START_IT = "Start it, or point MILLSTREAM_REDIS_URL at it; `millstream up` brings its own."
REMEDIES: dict[RedisCause, str] = {
    "away": START_IT,
    "clients": "Raise the server's maxclients, or end some of its clients.",
    "command": "See what else uses this server: keys of ours may have been overwritten. Its log may tell more.",
    "memory": "Raise its maxmemory, or let finished jobs go sooner (MILLSTREAM_RETENTION).",
    "not_ready": "Wait: it reads its data, or changes its role. If that does not end, see its log.",
    "one_node": "Set MILLSTREAM_REDIS_URL to redis+cluster://HOST:PORT.",
    "password": "Write the right user and password into MILLSTREAM_REDIS_URL, reserved characters percent-encoded.",
    "permissions": "Give its user the permissions in docs/operations.md; what runs goes on by itself then.",
    "protected": "The server is in protected mode: give it a password, or let it listen where you are.",
    "unknown_host": ("The host in MILLSTREAM_REDIS_URL is not known to this machine: correct it, or mend its DNS."),
}


def remedy_for(error: Unavailable) -> str:
    """Returns what an operator can do when the queue's server does not do what it is asked."""
    return REMEDIES[error.cause if isinstance(error, RedisTrouble) else "away"]


def loaders(models: Sequence[ModelInfo], model: ModelName) -> int:
    """Returns how many live worker processes could load a model on demand."""
    alive = [worker for info in models for worker in info.workers if worker.alive]
    offering = {worker.id for worker in alive if model in worker.details.get("on_demand", "").split()}
    return len(offering | {each.worker for info in models if info.name == model for each in info.loaders})


def waiting(info: ModelInfo, queued: Sequence[Queue], policy: Policy, loaders: int = 0) -> Iterator[DoctorFinding]:
    """Tells why the jobs of a model wait, if any do; `loaders`: how many workers could load it."""
    for worker in info.workers:
        if worker.alive and worker.details.get("state") == "sick":
            remedy = "Several engine errors in a row: look at its log. It is tried again by itself."
            yield DoctorFinding("bad", f"worker {worker.id} is sick and gets no jobs", remedy)
        elif worker.alive and worker.details.get("state") == "draining":
            yield DoctorFinding("note", f"worker {worker.id} is leaving and takes no jobs")
    if not queued:
        return
    who = ", ".join(f"{queue.waiting} {queue.tier}/{queue.tenant}" for queue in queued[:8])
    yield DoctorFinding("note", f"waiting for {info.name}: {who}", _why(info, queued, policy, loaders))


def _why(info: ModelInfo, queued: Sequence[Queue], policy: Policy, loaders: int) -> str:
    ready = [worker for worker in info.workers if worker.alive and worker.details.get("state") == "ready"]
    slots, load = sum(worker.slots for worker in ready), sum(worker.load for worker in ready)
    if not info.live and loaders:
        return "No worker has it loaded yet, one is about to; if that fails, its log says why, and it is tried again."
    if not info.live:
        return "No worker is alive: they wait until one comes, or until their deadline."
    if not ready:
        return "No worker takes jobs: all are leaving or sick."
    if load >= slots:
        return f"All {slots} slots are taken: add workers, or slots (--slots)."
    if policy.reserve and all(queue.tier in LOWER for queue in queued):
        return f"{slots - load} slots are free, but {policy.reserve} of each worker are kept for interactive requests."
    return (
        f"{slots - load} of {slots} slots are free: they should begin within a heartbeat; if not, see the workers' log."
    )


def versions(models: Sequence[ModelInfo]) -> Iterator[DoctorFinding]:
    """Finds workers of different versions, which understand each other's jobs only by luck."""
    found = {worker.details.get("version", "unknown") for info in models for worker in info.workers if worker.alive}
    if len(found) > 1:
        yield DoctorFinding("note", f"workers run versions {', '.join(sorted(found))}", "Bring them to one version.")


def differences(models: Sequence[ModelInfo]) -> Iterator[DoctorFinding]:
    """Finds workers under one name that are not the same: other weights, words or arithmetic, or less context."""
    for info in models:
        alive = [worker for worker in info.workers if worker.alive]
        prints = {worker.fingerprint or "none" for worker in alive}
        if len(prints) > 1:
            remedy = (
                "An answer that one began ends with an error if none like it is left. Give each model its own name."
            )
            what = f"model {info.name}: its workers have different fingerprints: {', '.join(sorted(prints))}"
            yield DoctorFinding("note", what, remedy)
        contexts = {worker.context_length for worker in alive}
        if len(contexts) > 1:
            what = f"model {info.name}: its workers' contexts have {', '.join(map(str, sorted(contexts)))} tokens"
            yield DoctorFinding(
                "note", what, "Long requests go only to those they fit; --max-model-len makes them equal."
            )


def processors(models: Sequence[ModelInfo]) -> Iterator[DoctorFinding]:
    """Tells which instruction sets torch uses where a model computes on CPUs, as its workers said; alike ones
    together."""
    places: dict[tuple[str, ...], set[str]] = {}
    for worker in (worker for info in models for worker in info.workers if worker.alive):
        if "instructions" in worker.details:
            told = [worker.details.get(name, "unknown") for name in PROCESSOR]
            places.setdefault((worker.model, *told), set()).add(worker.details.get("host", "unknown host"))
    for (model, dtype, instructions, fast, packed), hosts in places.items():
        where = f"model {model} in {dtype} on {', '.join(sorted(hosts))}"
        what = f"{where}: torch uses {instructions}; bfloat16 fast: {fast}; packed weights: {packed}"
        if dtype == "bfloat16" and fast == "no":
            yield DoctorFinding("note", what, "--dtype float32 is faster there, if twice the memory is free.")
        else:
            yield DoctorFinding("good", what)


def upstreams(models: Sequence[ModelInfo]) -> Iterator[DoctorFinding]:
    """Tells which servers compute where an OpenAI server is the engine, and what was found that they can do."""
    alive = [worker for info in models for worker in info.workers if worker.alive and "upstream" in worker.details]
    for worker in alive:
        told = worker.details
        what = f"worker {worker.id} asks {told['upstream']} ({told['upstream_server']}), which can: "
        yield DoctorFinding("good", f"{what}{told['upstream_can']}; and cannot: {told['upstream_cannot'] or 'nothing'}")


def exactnesses(models: Sequence[ModelInfo]) -> Iterator[DoctorFinding]:
    """Tells how exactly the answers of each model go on when what computes them dies."""
    for info in models:
        if info.live and info.exactness:
            levels = ", ".join(f"{kind} {level}" for kind, level in info.exactness.items())
            yield DoctorFinding("good", f"model {info.name} goes on after a death so: {levels}")


def clocks(skew: float) -> Iterator[DoctorFinding]:
    """Finds a clock that differs. `skew` is by how many seconds this machine is ahead of the server."""
    if abs(skew) > SKEW:
        way = "ahead of" if skew > 0 else "behind"
        remedy = "All decisions use the server's clock, so nothing breaks; logs will not line up. Run NTP."
        yield DoctorFinding("note", f"clock: this machine is {abs(skew):.1f} s {way} the queue's server", remedy)
