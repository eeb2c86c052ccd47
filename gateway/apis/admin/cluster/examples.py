"""An example of the cluster's state, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.shared.examples import ID, MODEL

WORKER = "worker-vm-41d7"
SUMMARY: dict[str, Any] = {
    "id": ID,
    "object": "job",
    "model": MODEL,
    "state": "queued",
    "worker": "",
    "tenant": "acme",
    "tier": "default",
    "attempt": 0,
    "chunks": 0,
    "age": 1.2,
    "deadline_in": 598.8,
    "why": "all_slots_busy",
    "position": 1,
    "wait": 2.5,
}
CLUSTER_MODEL: dict[str, Any] = {
    "id": MODEL,
    "engine": "transformers",
    "context_length": 8192,
    "capabilities": ["chat", "completions"],
    "system_fingerprint": "fp_5d33f1fbf8e3",
    "exactness": {"chat": "exact", "completions": "exact", "tools": "exact", "formats": "exact"},
    "workers": 1,
    "slots": 4,
    "running": 4,
    "waiting": 1,
    "live_jobs": 5,
    "dead_jobs": 0,
    "tokens_per_second": 183.4,
    "policy": "shortest_queue",
    "reserve": 0,
    "loading": "",
    "away": "",
    "wait": 2.5,
}
CLUSTER_WORKER: dict[str, Any] = {
    "id": WORKER,
    "model": MODEL,
    "state": "ready",
    "alive": True,
    "engine": "transformers",
    "slots": 4,
    "load": 4,
    "running": 4,
    "speed": 190.2,
    "tokens_per_second": 183.4,
    "tokens": 90210,
    "kv_use": 0.31,
    "prefix_hit_rate": 0.62,
    "lease_left": 4.1,
    "started": 1763767700,
    "version": "0.1.0",
    "host": "vm",
    "pid": 4711,
}
CLUSTER: dict[str, Any] = {
    "object": "cluster",
    "at": 1763767713.25,
    "viewer": {"tenant": "default", "admin": True, "local_workers": True},
    "redis": {"ok": True, "error": "", "round_trip_ms": 0.3, "version": "9.1.2", "role": "master"},
    "tokens_per_second": 183.4,
    "models": [CLUSTER_MODEL],
    "workers": [CLUSTER_WORKER],
    "queues": [{"model": MODEL, "tier": "default", "tenant": "acme", "waiting": 1, "served": 2048.0}],
    "jobs": [SUMMARY],
}
EVENT = 'event: cluster\ndata: {"object":"cluster","at":1763767713.25}\n\n'
