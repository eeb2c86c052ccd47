"""LoRA adapters in vLLM's batch make what each merged model makes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from millstream.worker.engines.base import GuideLimits, LoadFailed
from millstream.worker.engines.model_files.adapters.engine import AdapterEngine
from millstream.worker.engines.vllm.settings import VllmSettings
from tests.worker.engines.exactness.test_exact_arithmetic import PROMPTS, generated
from tests.worker.engines.loading.adapters.made import ALL, make_adapter, merged
from tests.worker.engines.loading.adapters.several import SeveralNames, spec

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
NAMES = ("", "plain", "wide", "mixed")
SYSTEM = [(i * 7 + 5) % 250 for i in range(100)]  # three whole blocks of 32, and four tokens
MergedModels = dict[str, LlamaForCausalLM]


@pytest.fixture(scope="module")
def folders(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three adapters of different ranks, layers and scalings."""
    place = tmp_path_factory.mktemp("adapters")
    patterns = {"rank_pattern": {"down_proj": 3}, "alpha_pattern": {"down_proj": 6}}
    return {
        "plain": make_adapter(place / "plain", tiny_folder, 1, lora_alpha=16),
        "wide": make_adapter(place / "wide", tiny_folder, 2, ALL, r=9, use_rslora=True, target_modules="all-linear"),
        "mixed": make_adapter(place / "mixed", tiny_folder, 3, ("k_proj", "down_proj"), r=6, **patterns),
    }


@pytest.fixture(scope="module")
def references(tiny_folder: Path, folders: dict[str, Path], reference: LlamaForCausalLM) -> MergedModels:
    return {
        "": reference,
        "plain": merged(tiny_folder, folders["plain"], 16 / 4),
        "wide": merged(tiny_folder, folders["wide"], 8 / 9**0.5),
        "mixed": merged(tiny_folder, folders["mixed"], {"k_proj": 8 / 6, "down_proj": 6 / 3}),
    }


@pytest.fixture(scope="module")
def several(
    tiny_folder: Path, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SeveralNames]:
    settings = VllmSettings(
        str(tiny_folder),
        dtype="float32",
        slots=8,
        cache_dir=tmp_path_factory.mktemp("cache"),
        engine_args=("enforce-eager", "block-size=32", "max-num-batched-tokens=64"),
        adapters=4,
        adapter_rank=9,
        adapter_layers=ALL,
    )
    names = SeveralNames(settings, **folders)
    yield names
    names.close()


def test_all_in_one_batch_speak_as_merged_models(several: SeveralNames, references: MergedModels) -> None:
    before = several.shared.engine.stats().steps
    asked = [(name, prompt) for prompt in PROMPTS[:2] for name in NAMES]
    ours = several.tokens(*((name, spec(prompt, 20)) for name, prompt in asked))
    assert ours == [generated(references[name], prompt, 20) for name, prompt in asked]
    assert len({tuple(tokens) for tokens in ours}) == len(asked)
    assert several.shared.engine.stats().steps - before < 4 * 20  # eight answers of 20 tokens: together


def test_the_log_probabilities_are_those_of_the_merged_model(several: SeveralNames, references: MergedModels) -> None:
    told = several.run(*((name, spec(PROMPTS[3], 8, logprobs=5)) for name in NAMES))
    for name, outputs in zip(NAMES, told, strict=True):
        ids = [*PROMPTS[3], *(output.token for output in outputs)]
        logits = references[name](torch.tensor([ids])).logits[0].log_softmax(-1)
        for place, output in enumerate(outputs, len(PROMPTS[3]) - 1):
            assert output.logprob is not None
            for token, logprob in output.logprob.top:
                assert logprob == pytest.approx(float(logits[place, token]), abs=1e-4)


def test_a_prompt_is_scored_with_its_adapter(several: SeveralNames, references: MergedModels) -> None:
    told = several.run(*((name, spec(PROMPTS[1], 0, prompt_logprobs=1)) for name in NAMES))
    for name, (output,) in zip(NAMES, told, strict=True):
        logits = references[name](torch.tensor([PROMPTS[1]])).logits[0].log_softmax(-1)
        own = [float(logits[at, token]) for at, token in enumerate(PROMPTS[1][1:])]
        assert output.prompt_logprobs is not None
        told_of = [each.logprob for each in output.prompt_logprobs[1:]]
        assert told_of == pytest.approx(own, rel=5e-5, abs=1e-4)  # vLLM's kernels add up in another order


def test_each_adapter_has_cached_beginnings_of_its_own(several: SeveralNames) -> None:
    def cached(name: str, *more: int, salt: str = "") -> int:
        ((first, *_),) = several.run((name, spec([*SYSTEM, *more], 3, cache_salt=salt)))
        return first.cached

    assert [cached(name, 1) for name in NAMES] == [0, 0, 0, 0]
    assert [cached(name, 2) for name in NAMES] == [96, 96, 96, 96]
    assert [cached(name, 2, salt="acme") for name in NAMES] == [0, 0, 0, 0]


def test_an_answer_goes_on_from_any_place(several: SeveralNames) -> None:
    drawn = {"temperature": 1.0, "seed": 5, "top_p": 0.95}
    for name in NAMES:
        (whole,) = several.tokens((name, spec(PROMPTS[2], 24, **drawn)))
        cuts = [(name, spec(PROMPTS[2], 24, generated=whole[:at], **drawn)) for at in (1, 9, 23)]
        assert several.tokens(*cuts) == [whole] * 3


def test_an_adapter_comes_and_goes_while_others_speak(
    several: SeveralNames, tiny_folder: Path, tmp_path: Path, references: MergedModels
) -> None:
    late = make_adapter(tmp_path / "late", tiny_folder, 5, ALL, r=2)
    long = spec(PROMPTS[0], 400)
    expected = generated(references["mixed"], PROMPTS[0], 400)

    async def add() -> None:
        several.engines["mixed"].add(long)

    several.drive(add())
    for _ in range(2):
        several.bring("late", late)
        several.send_away("late")
    assert several.engines["mixed"].stats().running  # all of this in the middle of its answer
    (told,) = several.drive(several.ended([long.key]))
    assert [output.token for output in told] == expected
    several.bring("late", late)
    whole = generated(merged(tiny_folder, late, 8 / 2), PROMPTS[0], 20)
    assert several.tokens(("late", spec(PROMPTS[0], 20))) == [whole]
    several.send_away("late")


def test_cards_name_the_adapter(several: SeveralNames) -> None:
    cards = several.cards
    assert len({cards[name].fingerprint for name in NAMES}) == 4
    told = [cards[name].details.get("adapter", "").partition(",")[0] for name in NAMES]
    assert told == ["", "rank 4", "rank 9", "rank 6"]
    assert {cards[name].exactness["chat"] for name in NAMES} == {"exact"}
    assert [cards[name].name for name in NAMES[1:]] == list(NAMES[1:])


OUTSIDE = {
    "no linear layer `model.layers.7": {"model.layers.7.self_attn.q_proj": (128, 128)},
    "from 32 to 128 there, and from 128 to 128 here": {"model.layers.0.self_attn.q_proj": (32, 128)},
    "output layer `lm_head`": {"lm_head": (128, 260)},
    "one of several experts": {"model.layers.0.mlp.experts.3.up_proj": (128, 96)},
    "max-lora-rank": {"model.layers.0.self_attn.q_proj": (128, 128)},
}


@pytest.mark.parametrize("named", OUTSIDE)
def test_an_adapter_that_does_not_fit_changes_nothing(several: SeveralNames, tmp_path: Path, named: str) -> None:
    rank = 20 if named == "max-lora-rank" else 2
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 4}))
    weights = {
        f"{name}.lora_{half}.weight": torch.ones(shape)
        for name, (read, written) in OUTSIDE[named].items()
        for half, shape in (("A", (rank, read)), ("B", (written, rank)))
    }
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(LoadFailed, match=named):
        AdapterEngine(several.shared, GuideLimits(), "foreign", str(tmp_path)).load()
    assert len(several.tokens(("", spec(PROMPTS[0], 3)))[0]) == 3
