"""A model split over two processes says what it says in one, and what cannot be split is refused before it is read."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import PosixPath
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from millstream.worker.engines.base import LoadFailed, Output
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.memory_plan import bytes_per_token
from millstream.worker.engines.transformers.ranks.messages import packed
from millstream.worker.engines.transformers.ranks.settings import RankSettings
from millstream.worker.engines.transformers.ranks.split import kv_heads_of_each, ranks_of
from millstream.worker.engines.transformers.settings import EngineSettings
from tests.worker.engines.rig import Rig

PROMPTS = (list(range(1, 10)), list(range(30, 130)), [5], [7, 8, 200], list(range(30, 120)))


@pytest.fixture(scope="module")
def split(tiny_settings: EngineSettings) -> Iterator[Rig]:
    with closing(Rig(replace(tiny_settings, tensor_parallel=2))) as rig:
        yield rig


def test_two_ranks_say_what_one_says(split: Rig, tiny: Rig) -> None:
    """Alone and in one batch, with prompts in several pieces and prompts that begin alike; log-probabilities differ in
    the last bits, because the ranks' sums are added up in another order."""
    asked = [{"max_tokens": 24, "logprobs": 2}, {"max_tokens": 24, "seed": 5, "temperature": 0.8}]
    for how in asked:
        alone = tiny.run(*(tiny.spec(prompt, **how) for prompt in PROMPTS))
        shared = split.run(*(split.spec(prompt, **how) for prompt in PROMPTS))
        assert [[o.token for o in one] for one in shared] == [[o.token for o in one] for one in alone]
        pairs = [pair for one, other in zip(shared, alone, strict=True) for pair in zip(one, other, strict=True)]
        told = [(a.logprob.logprob, b.logprob.logprob) for a, b in pairs if a.logprob and b.logprob]
        assert "logprobs" not in how or len(told) == 24 * len(PROMPTS)
        assert all(a == pytest.approx(b, abs=1e-4) for a, b in told)


def test_a_prompt_is_scored_by_all_ranks(split: Rig, tiny: Rig) -> None:
    [shared], [alone] = (rig.run(rig.spec(PROMPTS[1], 1, prompt_logprobs=2)) for rig in (split, tiny))
    told = [entry.logprob for entry in shared[0].prompt_logprobs or []][1:]
    assert told == pytest.approx([entry.logprob for entry in alone[0].prompt_logprobs or []][1:], abs=1e-4)
    assert len(told) == len(PROMPTS[1]) - 1


def test_each_rank_has_its_part_of_weights_and_cache(split: Rig, tiny: Rig) -> None:
    mine, whole = (rig.engine._loaded for rig in (split, tiny))
    layer, full = mine.model.model.layers[0], AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(mine.path))
    own = layer.self_attn.k_proj.weight.to_local()
    assert own.shape[0] * 2 == full.model.layers[0].self_attn.k_proj.weight.shape[0]
    assert bytes_per_token(mine) * 2 == bytes_per_token(whole)


def test_its_jobs_are_not_those_of_one_process(split: Rig, tiny: Rig) -> None:
    assert split.card.fingerprint != tiny.card.fingerprint
    assert split.card.details["tensor_parallel"] == "2" and "tensor_parallel" not in tiny.card.details
    assert (split.card.exactness["chat"], tiny.card.exactness["chat"]) == ("tokens", "exact")


def test_a_second_model_over_ranks_needs_a_worker_of_its_own(split: Rig, tiny_settings: EngineSettings) -> None:
    with pytest.raises(LoadFailed, match="split over ranks already"):
        TransformersEngine(replace(tiny_settings, tensor_parallel=2)).load()


def test_the_death_of_a_rank_breaks_the_engine(split: Rig) -> None:
    """The last test of this rig: nothing answers on it afterwards."""
    [follower] = split.engine._loaded.ranks._followers
    spec = split.spec(PROMPTS[0], 400)

    def failures() -> list[Output]:
        return [o for step in split.steps for o in step if o.key == spec.key and o.error]

    async def lose() -> None:
        split.engine.add(spec)
        while not any(o.key == spec.key for step in split.steps for o in step):
            await split.news()
        os.kill(follower.pid, signal.SIGKILL)
        while not failures():
            await split.news()

    split.drive(lose())
    [failed] = failures()
    assert split.engine.broken is not None and "broke" in str(failed.error)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"device_map": "auto"}, "--device-map does not go together with --tensor-parallel 2"),
        ({"adapters": True}, "--adapter does not go together"),
        ({"quantization": "8bit"}, "--quantization does not go together"),
        ({"batching": "off"}, "--batching off does not go together"),
        ({"tensor_parallel": 3}, "4 attention heads and 2 key-value heads, which 3 ranks .* numbers that fit: 2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_go_over_ranks_is_refused_before_loading(
    told: dict[str, Any], why: str, tiny_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.load._split", lambda *_: pytest.fail("loads"))
    with pytest.raises(LoadFailed, match=why) as refused:
        TransformersEngine(replace(tiny_settings, **{"tensor_parallel": 2} | told)).load()
    assert refused.value.param == "tensor_parallel"


def test_a_rank_that_does_not_start_is_said(tiny_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    monkeypatch.setattr("millstream.worker.engines.transformers.ranks.leader._FOLLOWER", "millstream.nothing")
    with pytest.raises(LoadFailed, match=r"Rank 1 of 2 is gone \(status 1\)"):
        TransformersEngine(replace(tiny_settings, tensor_parallel=2)).load()


def test_models_without_a_plan_are_refused() -> None:
    with torch.device("meta"):
        gpt2 = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_layer=1))
        llama = AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=1))
    with pytest.raises(LoadFailed, match="no plan for splitting the attention heads of GPT2LMHeadModel"):
        kv_heads_of_each(gpt2, None, 2)
    with pytest.raises(LoadFailed, match="code of its own"):
        kv_heads_of_each(None, None, 2)
    with pytest.raises(LoadFailed, match="has layers of another kind, and over several ranks only"):
        kv_heads_of_each(llama, "has layers of another kind", 2)
    assert kv_heads_of_each(llama, None, 4) == 8


def test_too_few_gpus_are_counted_before_loading(
    tiny_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    wanted = replace(tiny_settings, tensor_parallel=2, device="cuda")
    with pytest.raises(LoadFailed, match="needs 2 GPUs, and this machine shows 1"):
        TransformersEngine(wanted).load()
    with pytest.raises(LoadFailed, match="not cuda:1: choose with CUDA_VISIBLE_DEVICES"):
        TransformersEngine(replace(wanted, device="cuda:1")).load()


def test_torchrun_says_how_many_ranks_there_are() -> None:
    launched = RankSettings(rank=1, world_size=4, torchelastic_run_id="run")
    assert ranks_of(EngineSettings(), launched) == ranks_of(EngineSettings(tensor_parallel=4), launched) == 4
    assert launched.follows and not RankSettings(rank=1, torchelastic_run_id=None).follows
    with pytest.raises(LoadFailed, match="does not fit torchrun's 4 processes"):
        ranks_of(EngineSettings(tensor_parallel=2), launched)


def test_inputs_are_told_without_what_they_are_a_view_of() -> None:
    told = packed({"ids": [torch.arange(1000)[:3]], "length": 1})
    assert told["ids"][0].tolist() == [0, 1, 2] and told["ids"][0].untyped_storage().nbytes() == 24
    with pytest.raises(TypeError, match="cannot be told of a PosixPath"):
        packed({"past": PosixPath()})
