"""ModelScope's interface, asked as its own tools ask it: lists, checksums, ranges, refusals; and nothing offline."""

from pathlib import Path

import pytest

from tests.worker.engines.loading.sources.conftest import MODEL, Commands, refused
from tests.worker.engines.loading.sources.hub_server import HubServer

OF_IT = (MODEL, "--source", "modelscope")
WEIGHTS = "model.safetensors"


def place_of(said: str) -> Path:
    return Path(said.splitlines()[-1])


def test_a_model_is_fetched_checked_listed_and_removed(hub: HubServer, models: Commands) -> None:
    hub.cuts[WEIGHTS] = [3000]
    said = models("pull", *OF_IT)
    assert said.exit_code == 0, said.exception
    folder = place_of(said.output)
    assert (folder / WEIGHTS).read_bytes() == hub.repositories[MODEL].files[WEIGHTS]
    assert not (folder / "pytorch_model.bin").exists()
    assert hub.bodies(WEIGHTS) == ["", "bytes=3000-"]
    assert "modelscope" in models("list").output
    assert models("verify", *OF_IT).exit_code == 0
    (folder / WEIGHTS).write_bytes(b"?" + (folder / WEIGHTS).read_bytes()[1:])
    said = models("verify", *OF_IT)
    assert said.exit_code == 1
    assert f"{WEIGHTS}: another SHA-256" in said.output
    assert models("pull", *OF_IT).exit_code == 0
    assert models("verify", *OF_IT).exit_code == 0
    assert models("remove", *OF_IT).exit_code == 0
    assert not folder.exists()


def test_refusals(hub: HubServer, models: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "check the name" in refused(models("pull", "nobody/nothing", "--source", "modelscope"))
    assert "OWNER/NAME" in refused(models("pull", "nothing", "--source", "modelscope"))
    hub.repositories[MODEL].gated = True
    assert "MODELSCOPE_API_TOKEN" in refused(models("pull", *OF_IT))
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "good")
    assert models("pull", *OF_IT).exit_code == 0


def test_a_new_revision_is_another_folder_and_without_a_network_the_newest_counts(
    hub: HubServer, models: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = place_of(models("pull", *OF_IT).output)
    hub.repositories[MODEL].files["config.json"] += b"\n"
    new = place_of(models("pull", *OF_IT).output)
    assert new != old
    assert (old / "config.json").read_bytes() + b"\n" == (new / "config.json").read_bytes()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert models("list").output.count(MODEL) == 2
    (new / WEIGHTS).unlink()
    message = refused(models("pull", *OF_IT))
    assert WEIGHTS in message
