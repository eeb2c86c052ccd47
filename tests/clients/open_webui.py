"""Open WebUI as its makers publish it, driven by the requests that its own page sends."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import httpx

from millstream.common.broker.embedded import free_port
from tests.clients.conftest import PATIENCE, ServedSite
from tests.clients.test_others import ENVIRONMENT

PROGRAM = ENVIRONMENT / "open-webui" / "bin" / "open-webui"
OWNER = {"name": "Owner", "email": "owner@example.com", "password": "Long-enough-1"}


class OpenWebUI:
    """One running Open WebUI, whose only account is signed up."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        answer = http.post("/api/v1/auths/signup", json=OWNER)
        assert answer.status_code == 200, answer.text
        http.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    def connect(self, site: ServedSite, **connection: Any) -> list[str]:
        """Makes this cluster its only connection and returns the models that it finds there."""
        settings = {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [site.base_url],
            "OPENAI_API_KEYS": ["none"],
            "OPENAI_API_CONFIGS": {"0": {"enable": True, **connection}},
        }
        self.http.post("/openai/config/update", json=settings).raise_for_status()
        listed = self.http.get("/api/models", params={"refresh": "true"}).json()
        return [model["id"] for model in listed["data"]]

    def chat(self, model: str, message: str, after: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sends a message as the page does, in a new chat or at the end of one, and returns the chat as it is kept."""
        parent = after["chat"]["history"]["currentId"] if after else None
        said = {"id": str(uuid.uuid4()), "parentId": parent, "childrenIds": [], "role": "user", "content": message}
        body: dict[str, Any] = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": message}],
            "parent_id": parent,
            "user_message": said | {"timestamp": int(time()), "models": [model]},
            "id": str(uuid.uuid4()),
            "session_id": "page",
            "background_tasks": {"title_generation": True, "tags_generation": True, "follow_up_generation": True},
        }
        sent = self.http.post("/api/chat/completions", json=body | ({"chat_id": after["id"]} if after else {}))
        assert sent.status_code == 200, sent.text
        return self._ended(sent.json()["chat_id"])

    def _ended(self, chat: str) -> dict[str, Any]:
        until = monotonic() + PATIENCE
        while self.http.get(f"/api/tasks/chat/{chat}").json()["task_ids"]:
            assert monotonic() < until, "the answer does not end"
            sleep(0.2)
        kept: dict[str, Any] = self.http.get(f"/api/v1/chats/{chat}").json()
        return kept


def last_message(chat: dict[str, Any]) -> dict[str, Any]:
    history = chat["chat"]["history"]
    message: dict[str, Any] = history["messages"][history["currentId"]]
    return message


@contextmanager
def open_webui(folder: Path) -> Iterator[OpenWebUI]:
    """Runs it with its data in this folder. It asks no hub for models of its own."""
    port = free_port()
    own = {"DATA_DIR": str(folder / "data"), "WEBUI_SECRET_KEY": "secret", "OFFLINE_MODE": "true", "HOME": str(folder)}
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "ENABLE_OLLAMA_API": "false", **own}
    command = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
            _wait(http, process, folder / "log")
            yield OpenWebUI(http)
    finally:
        process.kill()
        process.wait()


def _wait(http: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = monotonic() + 2 * PATIENCE
    while monotonic() < until and process.poll() is None:
        try:
            if http.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            sleep(0.5)
    raise AssertionError(f"Open WebUI does not listen: {log.read_text()[-2000:]}")


def events(text: str) -> list[dict[str, Any]]:
    """Returns the events of a stream that Open WebUI passes on."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
