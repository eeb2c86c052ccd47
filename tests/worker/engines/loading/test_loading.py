"""Loading fails early, with a message that names the cause and the remedy."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from millstream.common.errors import MillstreamError
from millstream.worker.engines.model_files import sample_models as samples
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.loading.device import pick_dtype
from millstream.worker.engines.transformers.loading.failures import explain
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.conftest import EOS
from tests.worker.engines.rig import Rig

CPU = torch.device("cpu")


def refusal(settings: EngineSettings) -> str:
    with pytest.raises(MillstreamError) as refused:
        TransformersEngine(settings).load()
    return refused.value.message


def test_a_missing_path() -> None:
    assert "folder with config.json" in refusal(EngineSettings(source=ModelSource("/nowhere/at/all")))


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    assert "config.json" in refusal(EngineSettings(source=ModelSource(str(tmp_path))))


def test_files_that_are_damaged(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    (tmp_path / "cut.gguf").write_bytes(b"GGUFnope")
    (tmp_path / "empty.gguf").write_bytes(b"")
    for place in (folder, tmp_path / "cut.gguf", tmp_path / "empty.gguf"):
        assert "fetch it again" in refusal(EngineSettings(source=ModelSource(str(place))))


def test_a_chat_template_by_file(tiny_settings: EngineSettings, tmp_path: Path) -> None:
    missing, broken, picky = (tmp_path / name for name in ("missing.jinja", "broken.jinja", "picky.jinja"))
    broken.write_text("hello\n{% if x ")
    picky.write_text("{% if messages | length < 2 %}{{ raise_exception('two at least') }}{% endif %}ok")
    assert "missing.jinja" in refusal(replace(tiny_settings, chat_template=missing))
    message = refusal(replace(tiny_settings, chat_template=broken))
    assert "broken.jinja" in message
    assert "line 2" in message
    with closing(TransformersEngine(replace(tiny_settings, chat_template=picky))) as engine:
        engine.load()
        two = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
        assert engine.tokenizer.decode(engine.tokenizer.chat(two, [], go_on=False, kwargs={})) == "ok"


def test_an_unknown_architecture(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "steam-engine", "architectures": None}))
    assert "steam-engine" in refusal(EngineSettings(source=ModelSource(str(folder))))


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal(EngineSettings(source=ModelSource("nobody/no-such-model")))
    assert "local cache" in message
    assert "smollm2" in message


def test_too_long_a_context(tiny_settings: EngineSettings) -> None:
    assert "own context length 512" in refusal(replace(tiny_settings, max_model_len=4096))


def test_too_small_a_cache(tiny_settings: EngineSettings) -> None:
    message = refusal(replace(tiny_settings, kv_tokens=100))
    assert "--max-model-len" in message
    assert "--kv-tokens" in message


def test_too_large_a_cache_names_the_needed_and_the_free_amount(tiny_settings: EngineSettings) -> None:
    message = refusal(replace(tiny_settings, kv_tokens=10**10))
    assert "GiB needed" in message
    assert "GiB free" in message


@pytest.mark.parametrize("named", ["cuda", "abacus"])
def test_a_missing_device(tiny_settings: EngineSettings, named: str) -> None:
    if named == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    assert named in refusal(replace(tiny_settings, device=named))


def test_memory_and_code_are_explained() -> None:
    full = RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 6442450944 bytes."
    )
    assert "6.00 GiB needed" in explain(full, "m", CPU)
    code = ValueError("The repository contains custom code; set trust_remote_code=True")
    assert "--trust-remote-code" in explain(code, "m", CPU)
    assert "pip install" in explain(ImportError("Using this needs gptqmodel: `pip install gptqmodel`"), "m", CPU)


def test_on_cpus_small_models_are_exact_and_huge_ones_are_not_refused() -> None:
    assert pick_dtype("auto", CPU, parameters=10**8) == torch.float32
    assert pick_dtype("bfloat16", CPU, parameters=10**8) == torch.bfloat16
    assert pick_dtype("auto", torch.device("cuda"), parameters=10**8) is None


def test_names_and_fingerprints(tiny_settings: EngineSettings, tiny_folder: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(tiny_folder, tmp_path / "elsewhere")
    cards = []
    for settings in (
        tiny_settings,
        replace(tiny_settings, served_name="mill"),
        replace(tiny_settings, dtype="bfloat16"),
        replace(tiny_settings, served_name="mill", source=ModelSource(str(elsewhere))),
    ):
        engine = TransformersEngine(settings)
        cards.append(engine.load())
        engine.close()
    assert [card.name for card in cards] == [tiny_folder.name, "mill", tiny_folder.name, "mill"]
    assert cards[0].fingerprint == cards[1].fingerprint == cards[3].fingerprint != cards[2].fingerprint


def test_other_weights_words_or_defaults_are_another_model(
    tiny: Rig, tiny_settings: EngineSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    folders = {
        name: Path(shutil.copytree(tiny_folder, tmp_path / name)) for name in ("weights", "template", "sampling")
    }
    trained = LlamaForCausalLM.from_pretrained(folders["weights"])
    trained.lm_head.weight.data += 0.01
    trained.save_pretrained(folders["weights"])
    (folders["template"] / "chat_template.jinja").write_text("{{ messages }}")
    (folders["sampling"] / "generation_config.json").write_text('{"temperature": 0.5}')
    seen = {tiny.card.fingerprint}
    for folder in folders.values():
        engine = TransformersEngine(replace(tiny_settings, source=ModelSource(str(folder))))
        seen.add(engine.load().fingerprint)
        engine.close()
    assert len(seen) == 4


def test_the_models_own_sampling_is_in_its_card_unless_it_is_not_wanted(
    tiny_settings: EngineSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    told = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05, "min_p": 7}
    (folder / "generation_config.json").write_text(json.dumps(told | {"eos_token_id": [EOS, 7]}))
    settings = replace(tiny_settings, source=ModelSource(str(folder)))
    with closing(TransformersEngine(settings)) as engine:
        assert engine.load().defaults == {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}
        assert engine.tokenizer.eos_ids == {EOS, 7}
    with closing(TransformersEngine(replace(settings, generation_config="none"))) as engine:
        assert engine.load().defaults == {}
        assert engine.tokenizer.eos_ids == {EOS, 7}


def test_of_workers_that_need_the_sample_at_once_one_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(_: Path, draft: Path) -> None:
        written.append(draft)
        (draft / "model.safetensors").write_bytes(b"weights")
        (draft / "config.json").write_text("{}")

    monkeypatch.setattr(samples, "_write_model", write)
    monkeypatch.setattr(samples, "package_folder", lambda *_: tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: samples.sample_chat_folder(tmp_path, lambda *_: None), range(8)))
    (folder,) = folders
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "generation_config.json", "model.safetensors"]
    assert json.loads((folder / "generation_config.json").read_text()) == samples.RECOMMENDED
    assert len(written) == 1
    assert sorted((tmp_path / "models").iterdir()) == [folder, Path(f"{folder}.lock")]


def test_progress_tells_the_stages(tiny_settings: EngineSettings) -> None:
    stages: list[str] = []
    engine = TransformersEngine(tiny_settings)
    engine.load(lambda stage, fraction: stages.append(stage))
    engine.close()
    assert stages == [
        "reading the configuration",
        "loading the tokenizer",
        "loading the weights",
        "reading the vocabulary for grammars",
        "making room for the cache",
    ]
