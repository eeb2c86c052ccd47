"""Grammars and schemas that crash the compiler, or keep it busy for ever, against the real engine."""

import asyncio
import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.common.job import Guide
from tests.abuse.tenants import HANG, GoodTenant, attack
from tests.harness.cluster import MODEL, Cluster
from tests.harness.support import wait_until
from tests.worker.engines.grammar.guides_of_every_size import (
    chain_of_references,
    chain_of_rules,
    properties,
    words,
)

SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
PLAIN = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}
TRIED = {"guided_regex": "(ab|ba){3}"}
WITHOUT_LIMITS = {"guide_rules": "1000000", "guide_properties": "1000000", "guide_strings": "1000000"}
LOADING = 300.0  # seconds; a safety net for a busy machine

pytestmark = pytest.mark.timeout(900)


def fields(guide: Guide) -> dict[str, Any]:
    value = json.loads(guide.value) if guide.kind in ("json_schema", "choice") else guide.value
    return {{"json_schema": "guided_json", "choice": "guided_choice"}.get(guide.kind, "guided_grammar"): value}


async def serving(site: Cluster, model: Path, **settings: str) -> tuple[FleetPart, FleetPart]:
    """A gateway and a worker with the real compiler."""
    gateway = await site.gateway()
    served = {"engine": "transformers", "model": str(model), "served_model_name": MODEL, "threads": "1", "slots": "16"}
    worker = await site.fleet.worker(**served, **settings)
    await wait_until(lambda: site.info(worker), within=LOADING, what="the model is loaded")
    return gateway, worker


async def test_what_crashes_a_compiler_is_refused_by_its_size(site: Cluster, tiny_folder: Path) -> None:
    gateway, worker = await serving(site, tiny_folder)
    async with GoodTenant(site, gateway).served_throughout({}, PLAIN):
        for guide in (chain_of_rules(5000), chain_of_references(3000)):
            told = await attack(site, gateway, **fields(guide))
            assert told is not None and told.status_code == 400
            error = told.json()["error"]
            assert error["code"] == "invalid_grammar" and "`guide_rules`" in error["message"]
    assert worker.alive


async def test_what_gets_past_the_limits_harms_only_the_process_it_is_tried_in(
    site: Cluster, tiny_folder: Path
) -> None:
    gateway, worker = await serving(site, tiny_folder, guide_memory="48", **WITHOUT_LIMITS)
    attacks = [chain_of_rules(5000), chain_of_references(3000), chain_of_rules(70_000), properties(9000)]
    async with GoodTenant(site, gateway).served_throughout({}, PLAIN, TRIED):
        told = [await attack(site, gateway, max_tokens=2, **fields(guide)) for guide in attacks]
    assert [answer and answer.text for answer in told if answer is None or answer.status_code not in (200, 400)] == []
    assert told[-1] is not None and told[-1].json()["error"]["code"] == "invalid_grammar"
    assert worker.alive and not worker.told("engine_sick")


async def test_what_becomes_too_large_while_it_is_followed_says_nothing_of_the_engine(
    site: Cluster, tiny_folder: Path
) -> None:
    gateway, worker = await serving(site, tiny_folder)
    async with GoodTenant(site, gateway).served_throughout({}):
        for number in range(4):  # one more than an engine may fail
            told = await attack(site, gateway, max_tokens=8, guided_regex=f"a{{{10**9 + number}}}")
            assert told is not None and told.status_code == 400, told and told.text
            error = told.json()["error"]
            assert (error["code"], error["param"]) == ("invalid_grammar", "guided_regex"), error
    assert worker.alive and not worker.told("engine_sick")


async def test_guides_that_take_seconds_each_delay_nobody_and_end_with_their_clients(
    site: Cluster, tiny_folder: Path
) -> None:
    gateway, worker = await serving(site, tiny_folder, guide_seconds="120", **WITHOUT_LIMITS)
    slow = [fields(words(64_000 + number)) for number in range(8)]  # some seconds each, one after the other
    async with GoodTenant(site, gateway).served_throughout({}, PLAIN, TRIED):
        left = await asyncio.gather(*(attack(site, gateway, patience=2.0, **each) for each in slow))
    assert left.count(None) >= 6, [each and each.text[:300] for each in left]
    await wait_until(site.idle, within=HANG, what="the jobs are gone")
    process = psutil.Process(worker.pid)
    await wait_until(lambda: heavy(process) == [], within=HANG, what="what was tried is gone")
    assert not worker.told("guide_failed")  # given up, not run into the limit


def heavy(worker: psutil.Process) -> list[int]:
    """Children that hold more memory than one at rest."""
    return [child.pid for child in worker.children(recursive=True) if memory(child) > 200 << 20]


def memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
