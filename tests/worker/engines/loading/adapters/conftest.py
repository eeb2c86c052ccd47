"""Three adapters of different ranks, layers and scalings beside the tiny model, and what each makes of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from millstream.worker.engines.transformers.settings import EngineSettings
from tests.worker.engines.loading.adapters.made import ALL, make_adapter, merged
from tests.worker.engines.loading.adapters.several import SeveralNames


@pytest.fixture(scope="session")
def folders(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("adapters")
    patterns = {"rank_pattern": {"down_proj": 3}, "alpha_pattern": {"down_proj": 6}}
    return {
        "plain": make_adapter(place / "plain", tiny_folder, 1, lora_alpha=16),
        "wide": make_adapter(place / "wide", tiny_folder, 2, ALL, r=9, use_rslora=True, target_modules="all-linear"),
        "mixed": make_adapter(place / "mixed", tiny_folder, 3, ("k_proj", "down_proj"), r=6, **patterns),
    }


@pytest.fixture(scope="session")
def references(tiny_folder: Path, folders: dict[str, Path], reference: LlamaForCausalLM) -> dict[str, LlamaForCausalLM]:
    """Returns the model that each name is when its adapter is merged."""
    return {
        "": reference,
        "plain": merged(tiny_folder, folders["plain"], 16 / 4),
        "wide": merged(tiny_folder, folders["wide"], 8 / 9**0.5),
        "mixed": merged(tiny_folder, folders["mixed"], {"k_proj": 8 / 6, "down_proj": 6 / 3}),
    }


@pytest.fixture(scope="session")
def shared_settings(tiny_settings: EngineSettings) -> EngineSettings:
    return replace(tiny_settings, adapters=True)


@pytest.fixture(scope="session")
def several(shared_settings: EngineSettings, folders: dict[str, Path]) -> Iterator[SeveralNames]:
    names = SeveralNames(shared_settings, **folders)
    yield names
    names.close()
