"""A model and its adapters, from one worker process, each with a queue of its own: clients get what merged models say,
and answers outlive the process."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.lab.random_model import TEMPLATE, byte_tokenizer
from millstream.common.broker.models.directory import ModelInfo, model_info
from millstream.common.broker.models.inspection import live_jobs
from millstream.common.job import ModelName
from tests.faults.exactness.test_one_at_a_time import told
from tests.harness.cluster import PATIENCE, Cluster
from tests.harness.support import wait_until
from tests.worker.engines.exactness.test_exact_arithmetic import generated
from tests.worker.engines.loading.adapters.made import ALL, make_adapter, merged

PROMPT = "the wheel turns"
SHAPE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"vocab_size": 260, "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.3}


@dataclass
class Models:
    """A base and what it is with each of three adapters; the last one comes on demand."""

    base: Path
    adapters: dict[str, Path]
    merged: dict[str, LlamaForCausalLM]

    @property
    def settings(self) -> dict[str, str]:
        first, second, later = (f"{name}={folder}" for name, folder in self.adapters.items())
        return {
            "engine": "transformers",
            "model": str(self.base),
            "adapter": json.dumps([first, second]),
            "on_demand": json.dumps([later]),
            "device": "cpu",
            "threads": "1",
            "lease": "3.0",
        }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    place = tmp_path_factory.mktemp("models")
    torch.manual_seed(7)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE, bos_token_id=None, eos_token_id=256, pad_token_id=256))
    base.save_pretrained(place / "base")
    byte_tokenizer(TEMPLATE).save_pretrained(place / "base")
    adapters = {
        name: make_adapter(place / name, place / "base", seed, ALL if seed > 1 else ("q_proj",), r=2 * seed)
        for seed, name in enumerate(("alpha", "beta", "gamma"), 1)
    }
    whole = {
        name: merged(place / "base", folder, 8 / (2 * at)) for at, (name, folder) in enumerate(adapters.items(), 1)
    }
    return Models(place / "base", adapters, whole | {"base": base.eval()})


async def info(site: Cluster, name: str) -> ModelInfo:
    return await model_info(site.broker, ModelName(name))


async def serving(site: Cluster, name: str, workers: int) -> None:
    async def so_many() -> bool:
        return (await info(site, name)).live == workers

    await wait_until(so_many, within=PATIENCE, what=f"{workers} workers serve {name}")


def asking(name: str, tokens: int, **more: Any) -> dict[str, Any]:
    asked = {"model": name, "prompt": PROMPT, "max_tokens": tokens, "ignore_eos": True, "return_token_ids": True}
    return asked | {"temperature": 0} | more


async def test_each_is_a_model_of_its_own_from_one_process(site: Cluster, models: Models) -> None:
    gateway = await site.gateway()
    worker = await site.fleet.worker(**models.settings)
    for name in ("base", "alpha", "beta"):
        await serving(site, name, 1)
    assert (await info(site, "gamma")).live == 0  # it comes when it is asked for
    names = ("base", "alpha", "beta", "gamma") * 2
    answers = await asyncio.gather(*(told(site, gateway.url, asking(name, 40)) for name in names))
    prompt = list(byte_tokenizer(TEMPLATE).encode(PROMPT))
    assert answers == [generated(models.merged[name], prompt, 40) for name in names]
    facts = [(await info(site, name)).workers[0] for name in names[:4]]
    assert {each.details["pid"] for each in facts} == {str(worker.pid)}
    assert len({each.details["fingerprint"] for each in facts}) == 4
    assert [each.details.get("adapter", "").partition(",")[0] for each in facts] == ["", "rank 2", "rank 4", "rank 6"]

    assert (await site.http.post(f"{gateway.url}/v1/models/alpha/unload")).status_code == 202
    await serving(site, "alpha", 0)
    assert await told(site, gateway.url, asking("beta", 40)) == answers[2]
    assert (await site.http.post(f"{gateway.url}/v1/models/alpha/load")).status_code == 202
    await serving(site, "alpha", 1)
    assert await told(site, gateway.url, asking("alpha", 40)) == answers[1]


@pytest.mark.parametrize("name", ["base", "beta"])
async def test_an_answer_goes_on_exactly(site: Cluster, models: Models, name: str) -> None:
    gateway, first, second = await site.gateway(), *[await site.fleet.worker(**models.settings) for _ in range(2)]
    await serving(site, name, 2)
    asked = asking(name, 1200, temperature=1.0, seed=11, top_p=0.95)
    undisturbed = await told(site, gateway.url, asked)
    assert len(undisturbed) == 1200
    running = asyncio.create_task(told(site, gateway.url, asked))
    await (await holder(site, name, first, second)).kill()
    assert await running == undisturbed


async def holder(site: Cluster, name: str, *parts: FleetPart) -> FleetPart:
    """The worker process that is in the middle of a model's answer."""

    async def held() -> str:
        jobs = await live_jobs(site.broker, ModelName(name))
        return next((job.worker for job in jobs if job.state == "running" and job.seq > 5), "")

    holding = await wait_until(held, within=PATIENCE, what="it is in the middle of its answer")
    pid = next(worker.details["pid"] for worker in (await info(site, name)).workers if worker.id == holding)
    return next(part for part in parts if str(part.pid) == pid)
