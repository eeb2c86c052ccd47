"""Models that run a sequence at a time outlive their worker as the others do: a state of its own, and an encoder."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from millstream.bench.lab.random_model import TEMPLATE, byte_tokenizer
from millstream.common.broker.models.directory import model_info
from millstream.common.broker.models.inspection import live_jobs
from millstream.common.job import ModelName
from tests.harness.cluster import PATIENCE, Cluster
from tests.harness.support import wait_until

SMALL: dict[str, Any] = {"vocab_size": 260, "eos_token_id": 256}
T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4, "initializer_factor": 3.0}
MODELS = {
    "mamba": lambda: MambaForCausalLM(MambaConfig(**SMALL, hidden_size=32, num_hidden_layers=2)),
    "t5": lambda: T5ForConditionalGeneration(T5Config(**SMALL, **T5, decoder_start_token_id=257, pad_token_id=257)),
}


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    return folder


async def told(site: Cluster, url: str, asking: dict[str, Any]) -> list[int]:
    """Returns the tokens of a streamed completion."""
    ids: list[int] = []
    async with site.http.stream("POST", f"{url}/v1/completions", json=asking | {"stream": True}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    ids += choice.get("token_ids") or []
    return ids


@pytest.mark.parametrize("name", MODELS)
async def test_an_answer_goes_on_exactly(site: Cluster, tmp_path: Path, name: str) -> None:
    torch.manual_seed(7)
    folder = saved(MODELS[name](), tmp_path / name)
    model = ModelName(name)
    settings = {"engine": "transformers", "model": str(folder), "device": "cpu", "threads": "1", "lease": "3.0"}
    gateway, first, second = await site.gateway(), *[await site.fleet.worker(**settings) for _ in range(2)]

    async def both() -> bool:
        return sum(worker.alive for worker in (await model_info(site.broker, model)).workers) == 2

    await wait_until(both, within=PATIENCE, what="both workers announce themselves")
    asking = {"model": name, "prompt": "the wheel", "max_tokens": 1500, "seed": 11, "temperature": 1.0}
    asking |= {"ignore_eos": True, "return_token_ids": True, "top_p": 0.95}
    undisturbed = await told(site, gateway.url, asking)
    assert len(undisturbed) == 1500
    running = asyncio.create_task(told(site, gateway.url, asking))

    async def holder() -> str:
        for job in await live_jobs(site.broker, model):
            if job.state == "running" and job.seq > 5:
                return job.worker
        return ""

    holding = await wait_until(holder, within=PATIENCE, what="it is in the middle of its answer")
    workers = (await model_info(site.broker, model)).workers
    pid = next(worker.details["pid"] for worker in workers if worker.id == holding)
    await next(part for part in (first, second) if str(part.pid) == pid).kill()
    assert await running == undisturbed
