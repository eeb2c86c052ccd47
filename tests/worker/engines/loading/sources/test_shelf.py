"""`millstream models list`, `verify` and `remove`: what lies on the disk, whether it is whole, and who uses it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.engines.loading.sources.conftest import MODEL, Commands, refused
from tests.worker.engines.loading.sources.hub_server import HubServer

WEIGHTS = "model.safetensors"
HOLDS = """
import sys, time
from pathlib import Path
from millstream.worker.engines.model_files.fetching.in_use import FolderMark
hold = FolderMark(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def weights_of(tmp_path: Path) -> Path:
    return next((tmp_path / "hub").rglob(f"snapshots/*/{WEIGHTS}"))


def test_nothing_was_fetched_yet(models: Commands, tmp_path: Path) -> None:
    said = models("list")
    assert "No model was fetched yet" in said.output
    assert str(tmp_path / "hub") in said.output
    assert "lies on this machine" in refused(models("verify", MODEL))
    assert "lies on this machine" in refused(models("remove", MODEL))


def test_the_list_tells_name_source_size_revision_and_state(hub: HubServer, models: Commands, tmp_path: Path) -> None:
    assert models("pull", MODEL).exit_code == 0
    header, row = models("list").output.splitlines()
    assert header.split() == ["model", "source", "size", "revision", "state", "last", "used"]
    assert row.split()[:2] == [MODEL, "hub"]
    assert hub.repositories[MODEL].commit[:12] in row
    assert "whole" in row
    weights_of(tmp_path).resolve().unlink()
    assert "1 of " in models("list").output


def test_verify_names_what_is_broken_and_pull_mends_it(hub: HubServer, models: Commands, tmp_path: Path) -> None:
    assert models("pull", MODEL).exit_code == 0
    said = models("verify", MODEL)
    assert said.exit_code == 0, said.exception
    assert "what hub says now: whole" in said.output
    blob = weights_of(tmp_path).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:100] + b"#" + content[101:])
    small = blob.parent.parent / "snapshots" / hub.repositories[MODEL].commit / "config.json"
    small.resolve().write_bytes(b"{}" + small.read_bytes()[2:])
    (blob.parent / f"{'0' * 64}.incomplete").write_bytes(b"half")
    said = models("verify", MODEL)
    assert said.exit_code == 1
    assert f"{WEIGHTS}: another SHA-256" in said.output
    assert "config.json: another checksum" in said.output
    assert f"{'0' * 64}.incomplete: the beginning of a download" in said.output
    assert f"millstream models pull {MODEL}" in said.output
    assert models("pull", MODEL).exit_code == 0
    assert blob.read_bytes() == content


@pytest.mark.parametrize("listed", [True, False], ids=["with its list", "as others leave it"])
def test_verify_without_a_network(
    hub: HubServer, models: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    assert models("pull", MODEL).exit_code == 0
    if not listed:
        next((tmp_path / "hub").rglob("trees/*.json")).unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = models("verify", MODEL)
    assert said.exit_code == 0, said.output
    assert "cannot be asked now: whole" in said.output
    blob = weights_of(tmp_path).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"#")
    assert f"{WEIGHTS}: another SHA-256" in models("verify", MODEL).output
    blob.unlink()
    said = models("verify", MODEL)
    assert f"{WEIGHTS}: missing" in said.output
    message = refused(models("pull", MODEL))
    assert WEIGHTS in message
    assert "HF_HUB_OFFLINE" in message


def test_a_folder_is_verified_by_its_own_heads(models: Commands, tiny_folder: Path, tmp_path: Path) -> None:
    assert "whole" in models("verify", str(tiny_folder)).output
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part-2.safetensors"}}))
    said = models("verify", str(folder))
    assert said.exit_code == 1
    assert f"{WEIGHTS}: " in said.output
    assert "part-2.safetensors: missing" in said.output
    assert "already" in refused(models("pull", str(folder)))
    assert "of your own" in refused(models("remove", str(folder)))


def test_remove_frees_the_disk_but_not_while_somebody_uses_the_model(
    hub: HubServer, models: Commands, tmp_path: Path
) -> None:
    assert models("pull", MODEL).exit_code == 0
    folder = weights_of(tmp_path).parent
    user = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    try:
        assert user.stdout.readline() == "held\n"
        message = refused(models("remove", MODEL))
        assert "in use" in message
        assert str(user.pid) in message
        assert weights_of(tmp_path).is_file()
        os.kill(user.pid, signal.SIGKILL)
    finally:
        user.kill()
        user.wait()
        user.stdout.close()
    said = models("remove", MODEL)
    assert said.exit_code == 0, said.exception
    assert "MiB are free again" in said.output
    assert not (tmp_path / "hub" / "models--mills--tiny-llama").exists()
    assert "No model was fetched yet" in models("list").output
