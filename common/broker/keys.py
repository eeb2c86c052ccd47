"""Every key that Python touches, spelt once. Those that scripts touch are in `scripts/lib/keys.lua`. A test compares
the two with each other, and both with the table of `docs/protocol.md`.

`{model}` in braces is Redis Cluster's hash tag: all keys of one model share one slot, so one script may touch them.
"""

from millstream.common.job import GatewayId, JobId, ModelName, Tier, WorkerId

MODELS = "ms:models"
NAMES = "ms:names"
UNUSED = "ms:unused"
BATCHES = "ms:batches"
RESPONSES = "ms:responses"
UNFINISHED = "ms:unfinished"
DEAD_WEBHOOKS = "ms:webhooks:dead"
API_KEYS = "ms:keys"  # hash: sha256 of an API key -> whose it is and its limits, JSON


def prefix(model: ModelName) -> str:
    """Returns the beginning of all keys of a model; scripts get it as their one declared key and derive the others from
    it."""
    return f"ms:{{{model}}}:"


def tenant_prefix(tenant: str) -> str:
    """Returns the beginning of all keys of what a tenant has stored: one cluster slot each."""
    return f"ms:{{tenant:{tenant}}}:"


def batch_prefix(batch: str) -> str:
    """Returns the beginning of all keys of a batch: one cluster slot each."""
    return f"ms:{{batch:{batch}}}:"


def account_prefix(account: str) -> str:
    """Returns the beginning of all keys of an API key's limits: one cluster slot each."""
    return f"ms:{{account:{account}}}:"


def job(model: ModelName, job_id: JobId) -> str:
    """Hash: the truth of a job. TTL once settled."""
    return f"{prefix(model)}job:{job_id}"


def chunks(model: ModelName, job_id: JobId) -> str:
    """Stream: the chunk log, entry id `0-<seq>`, field `c`. TTL once settled."""
    return f"{prefix(model)}chunks:{job_id}"


def backlog(model: ModelName, tier: Tier, tenant: str) -> str:
    """Stream: ids of jobs waiting for a slot; its XLEN is the exact queue length. Gone when empty."""
    return f"{prefix(model)}backlog:{tier}:{tenant}"


def tenants(model: ModelName, tier: Tier) -> str:
    """Sorted set: tenants with a backlog in this tier -> virtual time (tokens served / weight). Gone when empty."""
    return f"{prefix(model)}tenants:{tier}"


def loaders(model: ModelName) -> str:
    """Sorted set: workers (JSON) that have the model but have not loaded it -> until when they count. TTL."""
    return f"{prefix(model)}loaders"


def resume(model: ModelName) -> str:
    """Stream: ids of jobs whose worker is gone, claimed before any backlog. Gone when empty."""
    return f"{prefix(model)}resume"


def resume_lower(model: ModelName, tier: Tier) -> str:
    """Stream: the same for flex and batch, claimed before their tier's backlogs. Gone when empty."""
    return f"{prefix(model)}resume:{tier}"


def suspects(model: ModelName) -> str:
    """Stream: ids of jobs on their last try. Gone when empty."""
    return f"{prefix(model)}resume:suspects"


def policy(model: ModelName) -> str:
    """Hash: how jobs are routed: `policy`, `margin`, `reserve`. Removed with the model."""
    return f"{prefix(model)}policy"


def owed(model: ModelName) -> str:
    """Hash: settled job -> the account and the tokens to be settled with its API key. Gone when empty."""
    return f"{prefix(model)}owed"


def inbox(model: ModelName, worker: WorkerId) -> str:
    """Stream: ids handed to that worker because it has a free slot; also its doorbell. Goes with the worker."""
    return f"{prefix(model)}inbox:{worker}"


def load(model: ModelName) -> str:
    """Sorted set: worker -> jobs it holds now, those in its inbox included. Entry goes with the worker."""
    return f"{prefix(model)}load"


def leases(model: ModelName) -> str:
    """Sorted set: worker -> Redis time (ms) at which its lease runs out. Entry goes with the worker."""
    return f"{prefix(model)}leases"


def fences(model: ModelName, worker: WorkerId) -> str:
    """Hash: each job this worker runs -> its lease, the gateways its frames go to (joined by a comma), what the worker
    is asked for (`cancel`, `preempt`). Goes with the worker."""
    return f"{prefix(model)}fences:{worker}"


def worker(model: ModelName, worker_id: WorkerId) -> str:
    """Hash: the worker's last heartbeat. TTL three leases."""
    return f"{prefix(model)}worker:{worker_id}"


def deadlines(model: ModelName) -> str:
    """Sorted set: live job -> its deadline (Redis time, ms). Entry goes at settle."""
    return f"{prefix(model)}deadlines"


def waiting(model: ModelName) -> str:
    """Hash: how much waits in backlog and resume: `jobs`, `bytes`, and both per tenant. Fields go at zero."""
    return f"{prefix(model)}waiting"


def gateways(model: ModelName) -> str:
    """Sorted set: gateway -> Redis time (ms) until which it is known to live. Entry goes with its last job."""
    return f"{prefix(model)}gateways"


def idempotency(model: ModelName, tenant: str, digest: str) -> str:
    """String: idempotency key -> job ids and the body's fingerprint, JSON. TTL deadline + retention."""
    return f"{prefix(model)}idem:{tenant}:{digest}"


def tally(model: ModelName) -> str:
    """Hash: what has happened so far, for an operator: `fenced` writes, workers `evicted:<cause>`. Goes with the
    model."""
    return f"{prefix(model)}tally"


def server(model: ModelName) -> str:
    """Hash: the Redis server's run id as last seen, and since when: what the restart grace is counted from."""
    return f"{prefix(model)}server"


def dead(model: ModelName) -> str:
    """Stream, capped at 1000: poison jobs with their reason, for an operator."""
    return f"{prefix(model)}dead"


def frames(gateway: GatewayId) -> str:
    """Pub/sub channel: all frames for one gateway process, a JSON list of `[job, lease, seq, chunk]` a message."""
    return f"ms:frames:{gateway}"


def control(worker_id: WorkerId) -> str:
    """Pub/sub channel: hints to a worker (`cancel <job>`); step and heartbeat replies carry them for certain."""
    return f"ms:control:{worker_id}"


def looked_for(model: ModelName) -> str:
    """String: where the gateways look for the model; at home and at that server (`here`). TTL 1 minute, renewed."""
    return f"{prefix(model)}looked_for"


def astray(model: ModelName) -> str:
    """String, at home: what a worker says that serves the model where no gateway looks. TTL 1 minute, renewed."""
    return f"{prefix(model)}astray"


def load_request(model: ModelName) -> str:
    """String: `load <stamp>` or `unload <stamp>`, what an operator wants of a model. TTL 1 minute."""
    return f"{prefix(model)}load_request"


def loading(model: ModelName) -> str:
    """String: `<worker> <stage>`, who loads the model just now and how far it is. TTL 10 s, renewed."""
    return f"{prefix(model)}loading"


def upkeep(model: ModelName) -> str:
    """String: elects who does a model's upkeep for the next moment. TTL 250 ms."""
    return f"{prefix(model)}upkeep"


def record(tenant: str, kind: str, identity: str) -> str:
    """Hash: `created` and `body` (JSON) of one stored object. TTL as its owner or the settings say."""
    return f"{tenant_prefix(tenant)}{kind}:{identity}"


def records(tenant: str, kind: str) -> str:
    """Sorted set: the tenant's records of that kind -> when created (seconds). TTL of the longest-lived record."""
    return f"{tenant_prefix(tenant)}index:{kind}"


def kept(tenant: str, pool: str) -> str:
    """Sorted set: what the tenant keeps in a pool of its quota -> Redis time (ms) at which it expires. TTL of the
    longest-lived object."""
    return f"{tenant_prefix(tenant)}kept:{pool}"


def sizes(tenant: str, pool: str) -> str:
    """Hash: the same -> bytes, with their sum under the empty name. TTL as that of `kept`."""
    return f"{tenant_prefix(tenant)}sizes:{pool}"


def batch_state(batch: str) -> str:
    """Hash: the truth of a batch: status, counts, cursor, who works on it. TTL its window and `stored_ttl`."""
    return f"{batch_prefix(batch)}state"


def batch_results(batch: str) -> str:
    """Hash: line number -> its answer (JSON), until it lies in a part of the output. TTL as the state's."""
    return f"{batch_prefix(batch)}results"


def batch_parts(batch: str) -> str:
    """List: the parts of the output that are written (JSON), in order. TTL as the state's."""
    return f"{batch_prefix(batch)}parts"


def open_jobs(account: str) -> str:
    """Hash: job -> tokens set aside for it, day, month, request. TTL beyond the last deadline."""
    return f"{account_prefix(account)}open"


def open_requests(account: str) -> str:
    """Hash: request -> how many of its jobs are not settled. TTL beyond the last deadline."""
    return f"{account_prefix(account)}requests"


def lapsing(account: str) -> str:
    """Sorted set: job -> Redis time (ms) at which its reservation lapses. TTL beyond the last deadline."""
    return f"{account_prefix(account)}lapsing"


def spent(account: str, period: str) -> str:
    """String: tokens used in a day (`2026-01-31`) or month (`2026-01`), reservations included. TTL 40 or 400 days."""
    return f"{account_prefix(account)}spent:{period}"


def usage(model: ModelName, day: int) -> str:
    """Hash: `<tenant> <what>` -> jobs, prompt, completion and cached tokens of one day (days since 1970, UTC).
    TTL 400 days."""
    return f"{prefix(model)}usage:{day}"


def ended(model: ModelName, tenant: str = "") -> str:
    """Sorted set: the newest jobs that ended, of one tenant if it is named -> until when they are kept (Redis time,
    ms). 10,000 at most, of a tenant 1,000. TTL as the longest-kept of them."""
    return f"{prefix(model)}ended:{tenant}" if tenant else f"{prefix(model)}ended"


def preempted(model: ModelName) -> str:
    """Sorted set: the newest 1,000 jobs that gave up their slots when they were asked to -> when (Redis time, ms), the
    last time of each. TTL 1 day."""
    return f"{prefix(model)}preempted"


def fenced(model: ModelName) -> str:
    """Hash: worker -> its writes that were refused because it had lost the lease. TTL 1 day, 256 workers at most."""
    return f"{prefix(model)}fenced"
