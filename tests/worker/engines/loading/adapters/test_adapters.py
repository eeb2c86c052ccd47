"""Unmerged LoRA adapters, mixed in one batch, make what each merged model makes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.lora.layer import AdaptedLinear
from millstream.worker.engines.transformers.settings import EngineSettings
from tests.worker.engines.exactness.test_exact_arithmetic import PROMPTS, generated
from tests.worker.engines.loading.adapters.made import make_adapter
from tests.worker.engines.loading.adapters.several import SeveralNames, spec

References = dict[str, LlamaForCausalLM]
NAMES = ("", "plain", "wide", "mixed")
SYSTEM = [(i * 7 + 5) % 250 for i in range(100)]  # six whole pages of 16, and four tokens


def test_all_in_one_batch_speak_as_merged_models(several: SeveralNames, references: References) -> None:
    before = several.shared.engine.stats().steps
    asked = [(name, prompt) for prompt in PROMPTS[:2] for name in NAMES]
    ours = several.tokens(*((name, spec(prompt, 20)) for name, prompt in asked))
    assert ours == [generated(references[name], prompt, 20) for name, prompt in asked]
    assert len({tuple(tokens) for tokens in ours}) == len(asked)
    assert several.shared.engine.stats().steps - before < 2 * 20  # eight answers of 20 tokens: together


def test_many_rows_of_each_and_single_ones(several: SeveralNames, references: References) -> None:
    """An adapter with many sequences is computed in another way than one with few: neither changes the others."""
    names = ["plain"] * 5 + ["wide", "mixed", ""]
    ours = several.tokens(*((name, spec([*PROMPTS[0], at], 20)) for at, name in enumerate(names)))
    assert ours == [generated(references[name], [*PROMPTS[0], at], 20) for at, name in enumerate(names)]


def test_the_logits_are_those_of_the_merged_model(several: SeveralNames, references: References) -> None:
    told = several.run(*((name, spec(PROMPTS[3], 8, logprobs=5)) for name in NAMES))
    for name, outputs in zip(NAMES, told, strict=True):
        ids = [*PROMPTS[3], *(output.token for output in outputs)]
        logits = references[name](torch.tensor([ids])).logits[0].log_softmax(-1)
        for place, output in enumerate(outputs, len(PROMPTS[3]) - 1):
            assert output.logprob is not None
            for token, logprob in output.logprob.top:
                assert logprob == pytest.approx(float(logits[place, token]), abs=1e-4)


def test_a_prompt_is_scored_with_its_adapter(several: SeveralNames, references: References) -> None:
    told = several.run(*((name, spec(PROMPTS[1], 0, prompt_logprobs=1)) for name in NAMES))
    for name, (output,) in zip(NAMES, told, strict=True):
        logits = references[name](torch.tensor([PROMPTS[1]])).logits[0].log_softmax(-1)
        own = [float(logits[at, token]) for at, token in enumerate(PROMPTS[1][1:])]
        assert output.prompt_logprobs is not None
        assert [each.logprob for each in output.prompt_logprobs[1:]] == pytest.approx(own, abs=1e-4)


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
    shared_settings: EngineSettings, folders: dict[str, Path], references: References
) -> None:
    names = SeveralNames(shared_settings, mixed=folders["mixed"])
    long = spec(PROMPTS[0], 250)
    expected = generated(references["mixed"], PROMPTS[0], 250)

    async def add() -> None:
        names.engines["mixed"].add(long)

    names.drive(add())
    adapters = names.shared.engine.adapters
    assert adapters is not None
    before = adapters.memory
    for _ in range(3):
        names.bring("wide", folders["wide"])
        assert adapters.memory > before
        names.send_away("wide")
        assert adapters.memory == before
    assert names.engines["mixed"].stats().running  # all of this in the middle of its answer
    (told,) = names.drive(names.ended([long.key]))
    assert [output.token for output in told] == expected
    names.bring("wide", folders["wide"])
    assert names.tokens(("wide", spec(PROMPTS[0], 20))) == [generated(references["wide"], PROMPTS[0], 20)]
    names.close()


def test_layers_without_adapters_are_the_models_own_again(
    shared_settings: EngineSettings, folders: dict[str, Path]
) -> None:
    names = SeveralNames(shared_settings, **folders)
    model = names.shared.engine._loaded.model  # pyright: ignore[reportOptionalMemberAccess, reportPrivateUsage]
    assert sum(isinstance(layer, AdaptedLinear) for layer in model.modules()) == 14
    for name in folders:
        names.send_away(name)
    assert not any(isinstance(layer, AdaptedLinear) for layer in model.modules())
    names.close()


def test_the_model_stays_until_the_last_name_has_gone(
    shared_settings: EngineSettings, folders: dict[str, Path], references: References
) -> None:
    names = SeveralNames(shared_settings, plain=folders["plain"])
    engine = names.shared.engine
    names.send_away("")
    assert names.tokens(("plain", spec(PROMPTS[0], 9))) == [generated(references["plain"], PROMPTS[0], 9)]
    names.bring("", None)
    assert names.shared.engine is engine
    for name in ("", "plain"):
        names.send_away(name)
    names.bring("plain", folders["plain"])
    assert names.shared.engine is not engine
    assert names.tokens(("plain", spec(PROMPTS[0], 9))) == [generated(references["plain"], PROMPTS[0], 9)]
    names.close()


def test_one_at_a_time(shared_settings: EngineSettings, folders: dict[str, Path], references: References) -> None:
    names = SeveralNames(replace(shared_settings, batching="off"), **folders)
    ours = names.tokens(*((name, spec(PROMPTS[0], 12)) for name in NAMES))
    assert ours == [generated(references[name], PROMPTS[0], 12) for name in NAMES]
    names.close()


def test_the_fingerprint_is_that_of_the_model_and_the_adapters_numbers(
    several: SeveralNames, tiny_folder: Path, tiny_settings: EngineSettings, folders: dict[str, Path], tmp_path: Path
) -> None:
    alone = TransformersEngine(tiny_settings)
    assert several.cards[""].fingerprint == alone.load().fingerprint
    alone.close()
    shutil.copytree(folders["plain"], tmp_path / "elsewhere")
    several.bring("copy", tmp_path / "elsewhere")
    several.bring("scaled", make_adapter(tmp_path / "scaled", tiny_folder, 1, lora_alpha=17))
    told = {name: several.cards[name].fingerprint for name in (*NAMES, "copy", "scaled")}
    assert told["copy"] == told["plain"]
    assert len(set(told.values())) == len(told) - 1
    for name in ("copy", "scaled"):
        several.send_away(name)


def test_the_card_tells_what_an_adapter_costs(several: SeveralNames) -> None:
    numbers = 2 * 4 * (64 + 64) + 2 * 4 * (64 + 32)  # q and v of two layers, rank 4
    assert several.cards["plain"].details["adapter"] == f"rank 4, {numbers * 4 / 2**20:.2f} MiB"
    assert several.cards["plain"].name == "plain"


def test_who_waits_for_a_place_hears_of_it(several: SeveralNames) -> None:
    """Only where the batch was full: else nobody has waited for this one."""
    heard: list[str] = []

    def listener() -> None:
        heard.append("a place")

    async def listen() -> None:
        several.engines["wide"].start(several.sink, listener)

    several.drive(listen())
    for count, expected in ((7, []), (8, ["a place"])):
        several.run(*(("plain", spec(PROMPTS[0], 3 + at)) for at in range(count)))
        assert heard == expected
    several.shared.deafen(listener)


def test_places_are_shared(several: SeveralNames) -> None:
    """Eight places in all: what one has, the others have not, but each may keep one job waiting."""

    async def places() -> list[int]:
        keys = [spec(PROMPTS[0], 64) for _ in range(6)]
        for each in keys:
            several.engines["plain"].add(each)
        told = [several.engines[name].slots for name in NAMES]
        running = [several.engines[name].stats().running for name in NAMES]
        for each in keys:
            several.engines["plain"].abort(each.key)
        return told + running

    assert several.drive(places()) == [2, 8, 2, 2, 0, 6, 0, 0]
    assert [several.engines[name].slots for name in NAMES] == [8, 8, 8, 8]
