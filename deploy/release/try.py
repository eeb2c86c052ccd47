"""Run an installed Millstream as a newcomer would: `try.py PATH_OF_THE_COMMAND`, with nothing but the standard library.

It starts `up` with the sample model in an empty home, asks one question, opens the page and its modules, and stops it.
Ends with status 0 only if all of that worked.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PATIENCE = 300.0  # seconds for the first start: the sample's weights are converted once
QUESTION = "What is the capital of France?"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str, body: object = None) -> str:
    """Returns what is answered as text. Raises `OSError`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with DIRECT.open(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def free_port() -> int:
    """Returns a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_model(address: str, process: "subprocess.Popen[bytes]") -> str:
    """Returns the name of the first chat model. Raises `SystemExit` if the process ends or the patience does."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            for model in json.loads(fetch(f"{address}/v1/models"))["data"]:
                if "chat" in (model["capabilities"] or []):
                    return model["id"]
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit("no model was served")


def page(address: str) -> int:
    """Opens the page and every script and style that it names; returns how many there were."""
    html = fetch(f"{address}/")
    named = re.findall(r'(?:src|href)="(/?[\w./-]+\.(?:js|css|svg))"', html)
    for name in named:
        fetch(f"{address}/{name.lstrip('/')}")
    return len(named)


def main(command: str) -> None:
    """Starts, asks and stops."""
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        log = Path(home) / "up.log"
        own = {"HOME": home, "XDG_CACHE_HOME": home, "XDG_STATE_HOME": home}
        began = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen(
                [command, "up", "--port", str(port)], env=os.environ | own, stdout=out, stderr=out, cwd=home
            )
        try:
            address = f"http://127.0.0.1:{port}"
            model = wait_for_model(address, process)
            body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
            answer = json.loads(fetch(f"{address}/v1/chat/completions", body))["choices"][0]["message"]["content"]
            print(f"{model} after {time.monotonic() - began:.0f} s: {answer!r}; the page has {page(address)} parts")
            if "Paris" not in answer:
                raise SystemExit("that is not the answer of the sample model")
        except BaseException:
            print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(60)


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).absolute()))
