"""An adapter that cannot be served beside its model is refused by the name of what is in the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from millstream.worker.engines.base import GuideLimits, LoadFailed
from millstream.worker.engines.model_files.adapters.engine import AdapterEngine
from millstream.worker.engines.model_files.adapters.folder import AdapterRoom, read_adapter, room_of, write_adapter
from tests.worker.engines.exactness.test_exact_arithmetic import PROMPTS
from tests.worker.engines.loading.adapters.made import make_adapter
from tests.worker.engines.loading.adapters.several import SeveralNames, spec

Weights = dict[str, torch.Tensor]
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def refusal(folder: Path | str) -> str:
    with pytest.raises(LoadFailed) as refused:
        read_adapter(str(folder))
    assert refused.value.param in ("adapter", None)
    return refused.value.message


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "`use_dora`"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
        ({"bias": "lora_only"}, "`bias` is 'lora_only'"),
        ({"lora_bias": True}, "`lora_bias`"),
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"task_type": "SEQ_CLS"}, "'SEQ_CLS'"),
        ({"init_lora_weights": "pissa"}, "'pissa'"),
        ({"layer_replication": [[0, 1]]}, "`layer_replication`"),
        ({"target_parameters": ["experts.w"]}, "`target_parameters`"),
        ({"alora_invocation_tokens": [1]}, "`alora_invocation_tokens`"),
        ({"something_of_tomorrow": {"a": 1}, "use_qalora": True}, "`something_of_tomorrow`, `use_qalora`"),
        ({"target_modules": ["q_proj", "v_proj", "up_proj"]}, "up_proj"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_a_kind_that_is_not_served(tiny_folder: Path, tmp_path: Path, config: dict[str, Any], named: str) -> None:
    message = refusal(make_adapter(tmp_path / "odd", tiny_folder, 1, **config))
    assert named in message
    assert "merge" in message


def without_b(weights: Weights) -> None:
    del weights[f"{Q}.lora_B.weight"]


def with_magnitudes(weights: Weights) -> None:
    weights[f"{Q}.lora_magnitude_vector"] = torch.ones(64)


def with_nan(weights: Weights) -> None:
    weights[f"{Q}.lora_A.weight"][0, 0] = float("nan")


def with_other_rank(weights: Weights) -> None:
    weights[f"{Q}.lora_A.weight"] = torch.ones(7, 64)


def with_infinity(weights: Weights) -> None:
    weights[f"{Q}.lora_B.weight"] = torch.full((64, 4), 3e38)  # times the scaling


def with_no_rank(weights: Weights) -> None:
    for half, shape in (("A", (0, 64)), ("B", (64, 0))):
        weights[f"{Q}.lora_{half}.weight"] = torch.empty(shape)


def with_none(weights: Weights) -> None:
    weights.clear()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_b, "`model.layers.0.self_attn.q_proj`"),
        (with_magnitudes, "lora_magnitude_vector"),
        (with_nan, "not finite"),
        (with_infinity, "not finite"),
        (with_no_rank, "do not belong together"),
        (with_other_rank, "do not belong together"),
        (with_none, "no weights"),
    ],
)
def test_weights_that_are_none(
    tiny_folder: Path, tmp_path: Path, change: Callable[[Weights], None], named: str
) -> None:
    folder = make_adapter(tmp_path / "odd", tiny_folder, 1)
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")
    assert named in refusal(folder)


def test_files_that_are_none(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_adapter(tmp_path / "odd", tiny_folder, 1)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "damaged" in refusal(folder)
    weights.unlink()
    assert "no file adapter_model.safetensors" in refusal(folder)
    for text, named in (("{", "cannot be read"), ("[]", "no object"), ("\x00", "cannot be read")):
        (folder / "adapter_config.json").write_text(text)
        assert named in refusal(folder)
    assert "no file adapter_config.json" in refusal(tmp_path)
    assert "no file adapter_config.json" in refusal("/nowhere/at/all")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "local cache" in refusal("nobody/nothing-of-this-name")


def test_written_anew_it_holds_the_same_numbers(tiny_folder: Path, tmp_path: Path) -> None:
    """In a form that leaves nothing to its configuration: one rank, and a scaling of 1."""
    patterns = {"rank_pattern": {"down_proj": 3}, "alpha_pattern": {"down_proj": 6}}
    folder = make_adapter(tmp_path / "mixed", tiny_folder, 3, ("k_proj", "down_proj"), r=6, use_rslora=True, **patterns)
    adapter = read_adapter(str(folder))
    write_adapter(adapter, tmp_path / "anew")
    again = read_adapter(str(tmp_path / "anew"))
    assert {pair.down.shape[0] for pair in again.layers.values()} == {6}
    assert again.layers.keys() == adapter.layers.keys()
    for name, pair in adapter.layers.items():
        rank = pair.down.shape[0]
        assert torch.equal(again.layers[name].down[:rank], pair.down)
        assert torch.equal(again.layers[name].up[:, :rank], pair.up)
        assert not again.layers[name].up[:, rank:].any()


def test_the_room_it_needs_is_told_without_reading_its_numbers(tiny_folder: Path, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "some", tiny_folder, 3, ("k_proj", "down_proj"), rank_pattern={"down_proj": 9})
    assert room_of(str(folder)) == AdapterRoom(9, frozenset(("k_proj", "down_proj")))
    (folder / "adapter_config.json").write_text("{")
    assert room_of(str(folder)) == room_of("/nowhere/at/all") == AdapterRoom()


OUTSIDE = {
    "no linear layer": {"model.norm": (64, 64)},
    "no linear layer `model.layers.7": {"model.layers.7.self_attn.q_proj": (64, 64)},
    "from 32 to 64 there, and from 64 to 64 here": {"model.layers.0.self_attn.q_proj": (32, 64)},
    "output layer `lm_head`": {"lm_head": (64, 260)},
    "one of several experts": {"model.layers.0.mlp.experts.3.up_proj": (64, 96)},
}


@pytest.mark.parametrize("named", OUTSIDE)
def test_an_adapter_of_another_model_changes_nothing(several: SeveralNames, tmp_path: Path, named: str) -> None:
    """The model it was brought to goes on, and its memory is as before."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    weights = {
        f"{name}.lora_{half}.weight": torch.ones(shape)
        for name, (read, written) in OUTSIDE[named].items()
        for half, shape in (("A", (2, read)), ("B", (written, 2)))
    }
    save_file(weights, tmp_path / "adapter_model.safetensors")
    adapters = several.shared.engine.adapters
    assert adapters is not None
    before = adapters.memory
    with pytest.raises(LoadFailed, match=named):
        AdapterEngine(several.shared, GuideLimits(), "foreign", str(tmp_path)).load()
    assert adapters.memory == before
    assert len(several.tokens(("", spec(PROMPTS[0], 3)))[0]) == 3


def test_an_adapter_needs_a_name_of_its_own(several: SeveralNames, folders: dict[str, Path]) -> None:
    engine = AdapterEngine(several.shared, GuideLimits(), several.cards[""].name, str(folders["plain"]))
    with pytest.raises(LoadFailed, match="needs another name"):
        engine.load()


def test_memory_that_is_short_is_told_and_taken_back(
    several: SeveralNames, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_adapter(tmp_path / "large", tiny_folder, 8, r=17)
    adapters = several.shared.engine.adapters
    assert adapters is not None
    before, real, calls = adapters.memory, torch.cat, iter(range(100))

    def short(*args: Any, **kwargs: Any) -> torch.Tensor:
        if next(calls) == 5:
            raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")
        return real(*args, **kwargs)

    monkeypatch.setattr("millstream.worker.engines.transformers.lora.layer.torch.cat", short)
    with pytest.raises(LoadFailed, match=r"Not enough memory.*2\.00 GiB needed"):
        several.bring("large", folder)
    monkeypatch.undo()
    assert adapters.memory == before
    assert len(several.tokens(("plain", spec(PROMPTS[0], 3)))[0]) == 3
