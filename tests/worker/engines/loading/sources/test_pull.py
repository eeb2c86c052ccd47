"""`millstream models pull` against a server that speaks the hub's interface: whole, broken off, refused, offline."""

import errno
import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from millstream.worker.engines.model_files.fetching import download
from tests.worker.engines.loading.sources.conftest import MODEL, Commands, refused
from tests.worker.engines.loading.sources.hub_server import HubServer, Repository

WEIGHTS = "model.safetensors"


def snapshot(tmp_path: Path, hub: HubServer) -> Path:
    return tmp_path / "hub" / "models--mills--tiny-llama" / "snapshots" / hub.repositories[MODEL].commit


def test_what_is_needed_is_fetched_and_lies_where_the_hubs_library_looks(
    hub: HubServer, models: Commands, tmp_path: Path
) -> None:
    said = models("pull", MODEL)
    assert said.exit_code == 0, (said.output, said.exception)
    folder = snapshot(tmp_path, hub)
    assert str(folder) in said.output
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == hub.repositories[MODEL].files.keys() - {"pytorch_model.bin", "onnx/model.onnx", "README.md"}
    for name in there:
        assert (folder / name).read_bytes() == hub.repositories[MODEL].files[name]
    from huggingface_hub import snapshot_download

    assert snapshot_download(MODEL, local_files_only=True, allow_patterns=sorted(there)) == str(folder)
    assert (folder / WEIGHTS).resolve().name == sha256(hub.repositories[MODEL].files[WEIGHTS]).hexdigest()


def test_a_second_time_fetches_no_body_again(hub: HubServer, models: Commands) -> None:
    assert models("pull", MODEL).exit_code == 0
    hub.asked.clear()
    assert models("pull", MODEL).exit_code == 0
    assert not [asked for asked in hub.asked if "/resolve/" in asked.path or "/content/" in asked.path]


def test_a_body_that_breaks_off_goes_on_where_it_broke(hub: HubServer, models: Commands, tmp_path: Path) -> None:
    hub.cuts[WEIGHTS] = [1000, 3000]
    assert models("pull", MODEL).exit_code == 0
    ranges = hub.bodies(f"content/{MODEL}/{WEIGHTS}")
    assert ranges == ["", "bytes=1000-", "bytes=4000-"]
    assert (snapshot(tmp_path, hub) / WEIGHTS).read_bytes() == hub.repositories[MODEL].files[WEIGHTS]


def test_a_download_that_was_given_up_is_kept_named_and_gone_on_with(
    hub: HubServer, models: Commands, tmp_path: Path
) -> None:
    hub.cuts[WEIGHTS] = [5000] + [0] * 9
    assert "cannot be reached" in refused(models("pull", MODEL))
    (left,) = (tmp_path / "hub").rglob("*.incomplete")
    assert left.stat().st_size == 5000
    hub.cuts.clear()
    hub.asked.clear()
    assert models("pull", MODEL).exit_code == 0
    assert hub.bodies(f"content/{MODEL}/{WEIGHTS}") == ["bytes=5000-"]


def test_the_token_is_sent_to_the_hub_and_to_nobody_else(
    hub: HubServer, models: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[MODEL].gated = True
    message = refused(models("pull", MODEL))
    assert "gated" in message
    assert "HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", "good")
    hub.asked.clear()
    assert models("pull", MODEL).exit_code == 0
    assert {asked.authorised for asked in hub.asked if asked.path.startswith("/content/")} == {False}
    assert {asked.authorised for asked in hub.asked if "/resolve/" in asked.path} == {True}


def test_a_wrong_checksum_is_thrown_away(hub: HubServer, models: Commands, tmp_path: Path) -> None:
    right = hub.repositories[MODEL].files[WEIGHTS]
    hub.repositories[MODEL].lies[WEIGHTS] = right[:-1] + bytes([right[-1] ^ 1])
    message = refused(models("pull", MODEL))
    assert WEIGHTS in message
    assert "SHA-256" in message
    assert not list((tmp_path / "hub").rglob("*.incomplete"))
    hub.repositories[MODEL].lies.clear()
    assert models("pull", MODEL).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody/nothing"], "no model 'nobody/nothing' on the hub"),
        ([MODEL, "--revision", "no-such-branch"], "--revision"),
        (["a/b/c"], "no hub id"),
        ([f"{MODEL}/no.gguf"], "no GGUF file"),
        (["https://example.com/model.bin"], "ends with .gguf"),
        (["../elsewhere"], "nothing at"),
        (["mills"], "mills"),
        (["smollm2"], "needs no fetching"),
    ],
)
def test_a_wrong_name_is_said_in_one_sentence(models: Commands, arguments: list[str], said: str) -> None:
    assert said in refused(models("pull", *arguments))


def test_a_list_that_leads_outside_is_refused(hub: HubServer, models: Commands, tmp_path: Path) -> None:
    hub.repositories["mills/evil"] = Repository({"config.json": b"{}", "../../outside.json": b"{}"})
    assert "outside its own folder" in refused(models("pull", "mills/evil"))
    assert not list(tmp_path.rglob("outside.json"))


def test_a_source_that_is_down_or_gone(hub: HubServer, models: Commands) -> None:
    hub.down = True
    assert "cannot be reached" in refused(models("pull", MODEL))
    hub.down = False
    assert models("pull", MODEL).exit_code == 0
    hub.down = True
    assert models("pull", MODEL).exit_code == 0  # what is whole here is enough


@pytest.mark.parametrize("told", [{"Retry-After": "7"}, {"RateLimit": '"resolvers";r=0;t=7'}], ids=["after", "limit"])
def test_a_source_that_has_had_enough_is_asked_again_when_it_says(
    hub: HubServer, models: Commands, monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("millstream.worker.engines.model_files.fetching.download.time.sleep", waits.append)
    hub.enough = [told]
    assert models("pull", MODEL).exit_code == 0
    assert 7.0 in waits


def test_a_source_that_has_had_enough_for_long_is_not_waited_for(
    hub: HubServer, models: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.enough = [{"Retry-After": "86400"}]
    message = refused(models("pull", MODEL))
    assert "takes no more requests from here for now" in message
    assert "HF_TOKEN" in message
    hub.enough.clear()
    assert models("pull", MODEL).exit_code == 0


def test_a_full_disk_is_seen_before_anything_is_fetched(
    hub: HubServer, models: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.worker.engines.model_files.fetching.pull.free", lambda _: 10)
    message = refused(models("pull", MODEL))
    assert "too full" in message
    assert "HF_HUB_CACHE" in message
    assert not [asked for asked in hub.asked if "/content/" in asked.path]


def test_a_disk_that_fills_up_meanwhile(hub: HubServer, models: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(download, "_write", full)
        assert "too full" in refused(models("pull", MODEL))
    assert models("pull", MODEL).exit_code == 0


def test_one_gguf_file_of_a_model(hub: HubServer, models: Commands, tmp_path: Path) -> None:
    files = {"a-Q4.gguf": b"GGUF" + b"a" * 9000, "b-Q8.gguf": b"GGUF" + b"b" * 9000, "README.md": b"hello"}
    hub.repositories["mills/gguf"] = Repository(files)
    assert "mills/gguf/a-Q4.gguf" in refused(models("pull", "mills/gguf"))
    said = models("pull", "mills/gguf/b-Q8.gguf")
    assert said.exit_code == 0, said.exception
    assert not [asked for asked in hub.asked if asked.path.endswith("a-Q4.gguf")]
    assert "whole" in models("verify", "mills/gguf/b-Q8.gguf").output
    page = models("pull", "https://huggingface.co/mills/gguf/blob/main/a-Q4.gguf")  # as copied from a browser
    assert page.exit_code == 0, page.exception


def test_a_gguf_file_at_an_address(hub: HubServer, models: Commands, tmp_path: Path) -> None:
    content = b"GGUF" + bytes(range(256)) * 40
    hub.repositories["mills/plain"] = Repository({"model.gguf": content})
    address = f"{hub.address}/content/mills/plain/model.gguf"
    hub.cuts["model.gguf"] = [0, 2000]  # the first request asks for the head alone
    said = models("pull", address)
    assert said.exit_code == 0, said.exception
    place = Path(said.output.splitlines()[-1])
    assert place.read_bytes() == content
    assert "bytes=2000-" in hub.bodies("model.gguf")
    place.write_bytes(content[:-1] + b"?")
    said = models("verify", address)
    assert said.exit_code == 1
    assert "another SHA-256" in said.output
    assert models("pull", address).exit_code == 0
    assert models("verify", address).exit_code == 0
    kept = json.loads(next((tmp_path / "own").rglob(".millstream.json")).read_text())
    assert kept["files"][0]["sha256"] == sha256(content).hexdigest()
