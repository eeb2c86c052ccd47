"""Examples of jobs, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.common.broker import keys
from millstream.common.job import JobId, ModelName
from millstream.gateway.apis.shared.examples import ID, MODEL

KEY = keys.job(ModelName(MODEL), JobId(ID))
DETAIL: dict[str, Any] = {
    "id": ID,
    "object": "job",
    "model": MODEL,
    "tenant": "acme",
    "tier": "default",
    "state": "running",
    "at": 1763767716.5,
    "submitted": 1763767713.2,
    "claimed": 1763767715.9,
    "deadline": 1763768313.2,
    "settled": None,
    "waited": 0.02,
    "position": None,
    "wait": None,
    "why": "",
    "worker": "worker-c",
    "lease": "2:worker-c",
    "leases": [
        {
            "lease": "1:worker-b",
            "worker": "worker-b",
            "after_chunk": 0,
            "since": 1763767713.22,
            "until": 1763767715.6,
            "preempted": False,
        },
        {
            "lease": "2:worker-c",
            "worker": "worker-c",
            "after_chunk": 74,
            "since": 1763767715.9,
            "until": None,
            "preempted": False,
        },
    ],
    "seams": 1,
    "attempt": 0,
    "chunks": 93,
    "finish": "",
    "usage": None,
    "error": "",
    "resumable": True,
    "wanted": "",
    "keys": {"job": KEY},
    "redis_cli": [f"redis-cli HGETALL '{KEY}'"],
}
ACTION: dict[str, Any] = {"id": ID, "object": "job", "status": "requeueing", "requeued_from": None}
PREEMPTED: dict[str, Any] = {
    "id": ID,
    "object": "preempted_job",
    "model": MODEL,
    "tenant": "acme",
    "tier": "batch",
    "state": "running",
    "moves": [{"worker": "worker-b", "at": 1763767715.6, "after_chunk": 74, "to": "worker-c", "since": 1763767719.1}],
}
DEAD: dict[str, Any] = {
    "id": ID,
    "object": "dead_job",
    "model": MODEL,
    "tenant": "acme",
    "died": 1763767716.5,
    "reason": "The workers running this request died 3 times without getting further; it is not tried again.",
    "can_requeue": True,
}
