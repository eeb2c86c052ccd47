"""Keys made and limited, policies chosen, and the live view, as an operator types it."""

import asyncio
import json
import re

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from millstream.cli.inspect.diagnosis import clocks, differences, processors, versions, waiting
from millstream.cli.main import app
from millstream.common.broker import keys
from millstream.common.broker.accounts.keyring import ApiKey, digest, find_key
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import ModelInfo, WorkerInfo, announce
from millstream.common.broker.models.inspection import Queue
from millstream.common.broker.models.policy import Policy, read_policy
from millstream.common.job import ModelName, WorkerId
from tests.harness.queue_site import MODEL, Site, open_site


def typed(url: str, *words: str) -> Result:
    return CliRunner().invoke(app, words, env={"MILLSTREAM_REDIS_URL": url, "COLUMNS": "220", "TERM": "dumb"})


@pytest.fixture
def url(redis_url: str) -> str:
    async def prepare() -> None:
        async with open_site(redis_url) as site:
            await _busy(site)

    asyncio.run(prepare())
    return redis_url


async def _busy(site: Site) -> None:
    await site.beat("worker-1", speed="40", tokens="123", job_seconds="2", policy="")
    await site.put("job-1", tenant="acme")
    await site.put("job-2", tenant="acme")
    await site.put("job-3", tenant="zeta", tier="batch")
    await site.claim("worker-1")


def test_a_key_is_shown_once_then_known_by_its_hash(url: str) -> None:
    made = typed(url, "keys", "create", "--tenant", "acme", "--weight", "2", "--requests-per-minute", "60")
    key = made.stdout.split()[0]
    assert made.exit_code == 0 and key.startswith("sk-ms-")

    async def stored() -> tuple[str, dict[str, object]]:
        async with Broker(url) as broker, Redis.from_url(url, decode_responses=True) as raw:
            record = await find_key(broker, digest(key))
            assert record is not None and (record.tenant, record.weight) == ("acme", 2)
            [text] = await raw.hvals(keys.API_KEYS)  # type: ignore[misc]
            return record.id, json.loads(text)

    identity, record = asyncio.run(stored())
    assert key not in json.dumps(record) and record["limits"] == {"requests_per_minute": 60}
    assert typed(url, "keys", "limit", identity, "--concurrent", "3", "--models", "a,b").exit_code == 0
    listed = typed(url, "keys", "list").stdout.splitlines()[-1]
    assert re.search(rf"{identity} +{key[-4:]} +acme +2 +priority +a, b +60 +- +3", listed)
    assert "acme" in typed(url, "usage").stdout
    lifted = typed(url, "keys", "limit", identity, "--models", "*", "--requests-per-minute", "0").stdout
    assert re.search(r"acme +2 +priority +all +- +- +3", lifted)
    assert typed(url, "keys", "revoke", identity).exit_code == 0
    assert "No API key" in typed(url, "keys", "list").stdout


def test_a_key_without_a_tenant_is_one_of_its_own_and_no_administrator(url: str) -> None:
    key = typed(url, "keys", "create").stdout.split()[0]

    async def stored() -> ApiKey | None:
        async with Broker(url) as broker:
            return await find_key(broker, digest(key))

    record = asyncio.run(stored())
    assert record is not None and record.tenant == record.id


def test_an_unknown_key_is_named(url: str) -> None:
    refused = typed(url, "keys", "revoke", "key_none")
    assert refused.exit_code != 0
    assert "There is no API key 'key_none'" in str(refused.exception)


def test_a_policy_counts_from_the_next_job_on(url: str) -> None:
    assert typed(url, "models", "policy", MODEL, "prefix", "--margin", "2").exit_code == 0

    async def policy() -> Policy:
        async with Broker(url) as broker:
            return await read_policy(broker, MODEL)

    assert asyncio.run(policy()) == Policy("prefix", 2, 0)
    assert typed(url, "models", "policy", MODEL, "session", "--reserve", "1").exit_code == 0
    assert asyncio.run(policy()) == Policy("session", 2, 1)
    assert typed(url, "models", "policy", MODEL, "clever").exit_code == 2
    assert typed(url, "models", "policy", "none", "prefix").exit_code != 0
    assert MODEL in typed(url, "models").stdout


def test_a_model_without_workers_can_be_forgotten(url: str) -> None:
    async def add() -> None:
        async with Broker(url) as broker:
            await announce(broker, ModelName("gone"))

    asyncio.run(add())
    assert typed(url, "models", "forget", "gone").exit_code == 0
    assert "gone" not in typed(url, "models").stdout
    assert typed(url, "models", "forget", MODEL).exit_code != 0


def test_top_shows_workers_queues_and_waits(url: str) -> None:
    shown = typed(url, "top", "--once").stdout
    assert re.search(r"simulated +shortest_queue +1 +1 +1 +2 +0\.0 +4\.0 s", shown)
    assert re.search(r"worker-1 +simulated +ready +1/1 +█{10}", shown)
    assert re.search(r"simulated +default +acme +1", shown) and re.search(r"simulated +batch +zeta +1", shown)


def info(*workers: WorkerInfo) -> ModelInfo:
    return ModelInfo(MODEL, list(workers), 1)


def worker(name: str, load: int = 0, *, alive: bool = True, **details: str) -> WorkerInfo:
    about = {"state": "ready", **details}
    return WorkerInfo(WorkerId(name), MODEL, alive=alive, load=load, slots=2, speed=1, details=about)


@pytest.mark.parametrize(
    ("model", "tier", "policy", "why"),
    [
        (info(worker("a", alive=False)), "default", Policy(), "No worker is alive"),
        (info(worker("a", state="draining")), "default", Policy(), "all are leaving or sick"),
        (info(worker("a", load=2)), "default", Policy(), "All 2 slots are taken"),
        (info(worker("a", load=1)), "batch", Policy(reserve=1), "kept for interactive"),
        (info(worker("a", load=1)), "default", Policy(reserve=1), "within a heartbeat"),
    ],
)
def test_doctor_says_why_a_request_waits(model: ModelInfo, tier: str, policy: Policy, why: str) -> None:
    found = list(waiting(model, [Queue(tier, "acme", 1, 0.0)], policy))
    assert why in found[-1].remedy


def test_doctor_sees_sickness_versions_and_clocks() -> None:
    sick = info(worker("a", state="sick", version="1"), worker("b", version="2"))
    assert [finding.grade for finding in waiting(sick, [], Policy())] == ["bad"]
    assert [finding.what for finding in versions([sick])] == ["workers run versions 1, 2"]
    assert not list(clocks(0.1)) and "behind" in next(clocks(-9.0)).what


def test_doctor_notes_workers_of_one_name_that_are_not_the_same() -> None:
    alike = {"fingerprint": "fp_1", "context_length": "500"}
    assert not list(differences([info(worker("a", **alike), worker("b", **alike))]))
    other = worker("c", fingerprint="fp_2", context_length="20000")
    found = [finding.what for finding in differences([info(worker("a", **alike), other)])]
    assert found == [
        f"model {MODEL}: its workers have different fingerprints: fp_1, fp_2",
        f"model {MODEL}: its workers' contexts have 500, 20000 tokens",
    ]
    assert not list(differences([info(worker("a", **alike), worker("d", alive=False, fingerprint="fp_3"))]))


def test_doctor_says_what_torch_makes_of_the_processors() -> None:
    fast = {"dtype": "float32", "instructions": "AVX512", "bfloat16_fast": "yes", "packed_weights": "yes"}
    slow = {"dtype": "bfloat16", "instructions": "AVX2", "bfloat16_fast": "no", "packed_weights": "no"}
    alike = info(worker("a", host="x", **fast), worker("b", host="y", **fast), worker("c", alive=False, **slow))
    found = list(processors([alike, info(worker("d", host="z", **slow)), info(worker("e", dtype="float16"))]))
    assert [(finding.grade, finding.what) for finding in found] == [
        ("good", f"model {MODEL} in float32 on x, y: torch uses AVX512; bfloat16 fast: yes; packed weights: yes"),
        ("note", f"model {MODEL} in bfloat16 on z: torch uses AVX2; bfloat16 fast: no; packed weights: no"),
    ]
    assert "--dtype float32" in found[1].remedy
