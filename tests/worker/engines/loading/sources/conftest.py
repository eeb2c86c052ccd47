"""A hub on this machine with one small model, and caches of its own for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from millstream.cli.main import app
from millstream.common.errors import MillstreamError
from tests.worker.engines.loading.sources.hub_server import HubServer, Repository

MODEL = "mills/tiny-llama"
Commands = Callable[..., Result]


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Publishes the tiny model, with files beside it that nobody needs; nothing is fetched yet."""
    files = {path.name: path.read_bytes() for path in sorted(tiny_folder.iterdir())}
    files |= {"pytorch_model.bin": b"x" * 9000, "onnx/model.onnx": b"y" * 9000, "README.md": b"# A mill\n"}
    with HubServer() as server:
        server.repositories[MODEL] = Repository(files)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
        monkeypatch.setenv("MODELSCOPE_DOMAIN", server.address)
        monkeypatch.setattr("millstream.worker.engines.model_files.fetching.download.time.sleep", lambda _: None)
        yield server


@pytest.fixture
def models(hub: HubServer) -> Commands:
    """Runs `millstream models …` in this process."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["models", *arguments])

    return run


def refused(result: Result) -> str:
    """Returns the one line that a refused command says."""
    assert isinstance(result.exception, MillstreamError), (result.output, result.exception)
    assert "\n" not in result.exception.message
    return result.exception.message
