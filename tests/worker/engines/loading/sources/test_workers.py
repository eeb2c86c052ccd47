"""Workers and what was fetched: the same way for `--model`, nothing written to a shared cache, several at once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import pytest

from millstream.common.errors import MillstreamError
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.loading.kinds import found
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.loading.sources.conftest import MODEL, Commands, refused
from tests.worker.engines.loading.sources.hub_server import HubServer

WEIGHTS = "model.safetensors"


def until(condition: Callable[[], bool]) -> None:
    while not condition():  # the test's own time limit ends it
        time.sleep(0.02)


def test_a_worker_fetches_what_it_serves_and_tells_how_far_it_is(
    hub: HubServer, models: Commands, tiny_settings: EngineSettings, tiny_folder: Path
) -> None:
    told: list[tuple[str, float | None]] = []
    settings = replace(tiny_settings, source=ModelSource(MODEL))
    settings = found(settings, lambda stage, part: told.append((stage, part)))
    assert told[-1][0].startswith("downloading tiny-llama")
    assert told[-1][1] == 1.0
    engine = TransformersEngine(settings)
    with closing(engine):
        card = engine.load()
        assert card.name == "tiny-llama"
        assert card.details["revision"] == hub.repositories[MODEL].commit
        assert "in use" in refused(models("remove", MODEL))
    own = TransformersEngine(replace(tiny_settings, source=ModelSource(str(tiny_folder))))
    with closing(own):
        assert own.load().fingerprint == card.fingerprint  # the same weights, wherever they lie
    del engine, settings
    assert models("remove", MODEL).exit_code == 0


def test_a_worker_says_what_pull_says(hub: HubServer, models: Commands, tiny_settings: EngineSettings) -> None:
    hub.repositories[MODEL].gated = True
    for name in (MODEL, "nobody/nothing", "a/b/c"):
        with pytest.raises(MillstreamError) as refusal:
            TransformersEngine(replace(tiny_settings, source=ModelSource(name))).load()
        assert refusal.value.message == refused(models("pull", name))


READS = """
import os, sys
from millstream.worker.engines.model_files.fetching.pull import pull
from millstream.worker.engines.model_files.fetching.wanted import read_name
from pathlib import Path
os.setgroups([]); os.setgid(65534); os.setuid(65534)
pulled = pull(read_name(sys.argv[1], None, sys.argv[2]), Path(sys.argv[3]), lambda stage, part: print(stage))
print(pulled.folder)
try:
    (pulled.folder / "new").write_text("x")
except OSError:
    print("read only")
"""


def environment(hub: HubServer, tmp_path: Path, **more: str) -> dict[str, str]:
    mine = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    mine |= {"XDG_CACHE_HOME": str(tmp_path / "own"), "MODELSCOPE_DOMAIN": hub.address}
    return {**os.environ, **mine, "HF_HUB_DISABLE_TELEMETRY": "1", **more}


def contents(folder: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime for path in folder.rglob("*")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_cache_that_may_only_be_read_is_enough_for_other_users(
    hub: HubServer, models: Commands, tmp_path: Path, source: str
) -> None:
    assert models("pull", MODEL, "--source", source).exit_code == 0
    with TemporaryDirectory() as folder:  # pytest's own folders are their user's alone
        shared = Path(shutil.copytree(tmp_path, Path(folder) / "shared", symlinks=True))
        for each in (Path(folder), shared):
            each.chmod(0o755)
        before, asked = contents(shared), len(hub.asked)
        call = [sys.executable, "-c", READS, MODEL, source, str(shared / "own" / "millstream")]
        nobody = environment(hub, shared, HOME="/nonexistent", HF_HOME="/nonexistent")
        said = subprocess.run(call, env=nobody, capture_output=True, text=True, timeout=100, check=False)
        assert said.returncode == 0, said.stderr
        *stages, folder_line, last = said.stdout.splitlines()
        assert not stages
        assert Path(folder_line).is_dir()
        assert last == "read only"
        assert contents(shared) == before
        assert len(hub.asked) == asked  # what is there is taken without asking


def test_two_at_once_and_one_killed_in_the_middle(hub: HubServer, tmp_path: Path) -> None:
    hub.stuck = Event()
    hub.cuts[WEIGHTS] = [7000]
    call = [sys.executable, "-m", "millstream.cli.main", "models", "pull", MODEL]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first = subprocess.Popen(call, env=environment(hub, tmp_path), **pipes)
    try:
        until(lambda: any(p.stat().st_size == 7000 for p in (tmp_path / "hub").rglob("*.incomplete")))
        second = subprocess.Popen(call, env=environment(hub, tmp_path), **pipes)
        until(lambda: sum(asked.path.endswith(f"/api/models/{MODEL}") for asked in hub.asked) >= 2)
        os.kill(first.pid, signal.SIGKILL)
        said, _ = second.communicate(timeout=100)
        assert second.returncode == 0, said
        assert "is whole" in said
    finally:
        hub.stuck.set()
        first.kill()
        first.communicate()
    assert hub.bodies(f"content/{MODEL}/{WEIGHTS}") == ["", "bytes=7000-"]
    assert (
        next((tmp_path / "hub").rglob(f"snapshots/*/{WEIGHTS}")).read_bytes()
        == (hub.repositories[MODEL].files[WEIGHTS])
    )


CONVERTS = """
import sys, time
from pathlib import Path
from millstream.worker.engines.model_files import sample_models as samples

def write(source, draft):
    (draft / "model.safetensors").write_bytes(b"half")
    print("half", flush=True)
    while sys.argv[2] == "hang":
        time.sleep(1)
    (draft / "model.safetensors").write_bytes(b"whole")
    (draft / "config.json").write_text("{}")

samples._write_model = write
print(samples.sample_chat_folder(Path(sys.argv[1]), lambda *_: None), flush=True)
"""


def test_a_converted_model_is_whole_though_its_first_maker_was_killed(tmp_path: Path) -> None:
    call = [sys.executable, "-c", CONVERTS, str(tmp_path)]
    first = subprocess.Popen([*call, "hang"], stdout=subprocess.PIPE, text=True)
    second = None
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "half\n"
        second = subprocess.Popen([*call, "go"], stdout=subprocess.PIPE, text=True)
        os.kill(first.pid, signal.SIGKILL)
        said, _ = second.communicate(timeout=100)
        folder = Path(said.splitlines()[-1])
        assert (folder / "model.safetensors").read_bytes() == b"whole"
        assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]  # no draft is left
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate()
