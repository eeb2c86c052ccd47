"""Our parts inside vLLM's processes and around them, as far as they need no vLLM."""

import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from millstream.common.job import Guide, Sampling
from millstream.worker.engines.base import LoadFailed, SequenceKey, SequenceSpec
from millstream.worker.engines.grammar.guides import Matcher
from millstream.worker.engines.sampling.sampler import Sampler
from millstream.worker.engines.sampling.sequence import Sequence, begin
from millstream.worker.engines.vllm.arguments import flags
from millstream.worker.engines.vllm.failures import explained
from millstream.worker.engines.vllm.hosted.job import begun, packed, unpacked
from millstream.worker.engines.vllm.hosted.sampler import RowSampler, go_on
from millstream.worker.engines.vllm.process_log import ProcessLog
from millstream.worker.engines.vllm.requests import OutputReader
from millstream.worker.engines.vllm.settings import VllmSettings
from tests.harness.support import wait_until

ROOT = Path(__file__).parents[4]
SIZE = 50
EOS = frozenset({2})
PLAYFUL = Sampling(temperature=0.9, seed=4, top_p=0.9, repetition_penalty=1.3, frequency_penalty=0.5, min_tokens=3)


def spec(sampling: Sampling, generated: list[int] | None = None) -> SequenceSpec:
    return SequenceSpec(SequenceKey("job#1"), [5, 6, 7], sampling, 20, generated or [])


def unguided(guide: Guide, generated: object) -> Matcher:
    raise AssertionError("there is no guide")


def hosted(job: SequenceSpec) -> Sequence:
    return begun(unpacked(packed(job, EOS)), job.prompt, unguided)


def test_a_job_is_the_same_on_the_other_side() -> None:
    job = spec(PLAYFUL, [9, 9])
    there, here = hosted(job), begin(job, EOS, None)
    assert (there.tokens, there.tally, there.stops, there.banned_early) == (
        here.tokens,
        here.tally,
        here.stops,
        here.banned_early,
    )


def test_the_row_that_is_left_is_what_our_sampler_chooses() -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, SIZE) * 3
    jobs = [spec(PLAYFUL, [9]), spec(Sampling(temperature=1.0, seed=8))]
    alone = Sampler(SIZE, torch.device("cpu")).choose(logits[[0, 2]].clone(), [begin(job, EOS, None) for job in jobs])
    untouched = logits[1].clone()
    RowSampler().choose(logits, [0, 2], [hosted(job) for job in jobs])
    assert logits.argmax(-1)[[0, 2]].tolist() == alone.tolist()
    assert torch.equal(logits[1], untouched)


def test_tokens_that_nobody_knows_yet_count_as_places() -> None:
    sequence = hosted(spec(PLAYFUL))
    go_on(sequence, [11, 12, -1])
    assert (sequence.tokens, sequence.position) == ([11, 12], 3)
    assert sequence.tally is not None and sequence.tally.counts == {11: 1, 12: 1}


def told(*tokens: int, finish: str | None = None) -> Any:
    made = SimpleNamespace(token_ids=list(tokens), finish_reason=finish, logprobs=None)
    return SimpleNamespace(outputs=[made], finished=finish is not None, prompt_logprobs=None, num_cached_tokens=2)


def test_every_token_is_told_once_and_the_end_even_without_one() -> None:
    reader = OutputReader(spec(PLAYFUL))
    outputs = [*reader.outputs(told(8)), *reader.outputs(told(9, 10)), *reader.outputs(told(finish="length"))]
    assert [(o.token, o.finish, o.cached) for o in outputs] == [
        (8, None, 2),
        (9, None, 0),
        (10, None, 0),
        (-1, "length", 0),
    ]


def test_flags_are_vllm_s_own() -> None:
    given = ("tensor-parallel-size=2", "--enforce_eager", "async-scheduling=false", "model-loader-extra-config={}")
    assert [*flags(VllmSettings("m", slots=4, engine_args=given), "/m")] == [
        "--model=/m",
        "--dtype=auto",
        "--max-num-seqs=4",
        "--tensor-parallel-size=2",
        "--enforce-eager",
        "--no-async-scheduling",
        "--model-loader-extra-config={}",
    ]
    for wrong in ("=3", "served_model_name=x", "logits-processors=y"):
        with pytest.raises(LoadFailed, match="--engine-args"):
            list(flags(VllmSettings("m", engine_args=(wrong,)), "/m"))


def test_room_for_adapters_is_made_at_the_start() -> None:
    settings = VllmSettings("m", adapters=20, adapter_rank=9, adapter_layers=("q_proj", "v_proj"))
    assert [*flags(settings, "/m")][2:] == [
        "--enable-lora",
        "--max-loras=8",
        "--max-cpu-loras=20",
        "--max-lora-rank=16",
        "--lora-target-modules",
        "q_proj",
        "v_proj",
    ]
    assert "--max-lora-rank=512" in flags(VllmSettings("m", adapters=1, adapter_rank=9999), "/m")


def test_stages_are_told_and_the_first_error_is_the_cause() -> None:
    stages: list[tuple[str, float | None]] = []
    log = ProcessLog(lambda stage, fraction: stages.append((stage, fraction)))
    for line in (
        "(Worker pid=9) INFO 11-26 14:43:12 [gpu_worker.py:1] Starting to load model x...",
        "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:02<00:00,  2.19s/it]",
        "(Worker pid=9) ERROR 11-26 14:43:14 [executor.py:1] ValueError: No room for 16 tokens.",
        "(EngineCore pid=8) ERROR 11-26 14:43:14 [core.py:1] RuntimeError: Worker failed, see root cause above",
    ):
        log.add(line)
    assert stages == [("loading the weights", None), ("loading the weights", 0.5)]
    assert log.cause() == "ValueError: No room for 16 tokens."


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("safetensors_rust.SafetensorError: incomplete metadata", "fetch it again"),
        ("ValueError: No available memory for the cache blocks. Try x.", "--max-model-len"),
        ("1 validation error for ModelConfig\n  Value error, no such architecture [type=value_error]", "architecture."),
    ],
)
def test_a_failure_is_one_sentence_with_its_remedy(said: str, why: str) -> None:
    message = explained("m", RuntimeError("Engine core initialization failed"), said).message
    assert why in message and "\n" not in message and message.endswith(".")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel must tell")
async def test_no_process_of_vllm_outlives_a_worker_killed_with_9() -> None:
    program = Path(__file__).with_name("tied_processes.py")
    owner = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert owner.stdout is not None
    lines = (int(line.split()[1]) for line in owner.stdout if line.startswith("pid "))
    pids = list(islice(lines, 2))
    assert all(running(pid) for pid in pids)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    await wait_until(lambda: not any(running(pid) for pid in pids), what="they are gone")
