"""The process in which guides are compiled on trial: `python -m … FD`. It reads a vocabulary, then guides, and answers
each with the reason it is refused, or with an empty one. It ends when its worker closes the connection or dies.

A guide may make the compiler crash, or take all memory or a minute: then it is this process that ends.
"""

import json
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

import psutil
from llguidance import LLTokenizer

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide
from millstream.worker.engines.grammar.compiling import Vocabulary, compile_guide

STACK = 256 << 20  # bytes: rules that refer to the next take about 10 kB each
_GRACE = 5  # seconds after its time limit until the process ends by itself, should nobody else end it
_POLITE = 5  # less of the processor than the worker, if both want it


def serve(connection: Connection) -> None:
    """Answer until the other side is gone."""
    try:
        setup = json.loads(connection.recv_bytes())
        tokenizer = Vocabulary(setup["tokenizer"], setup["size"], setup["ends"]).load()
        _bound_memory(setup["memory"])
        connection.send_bytes(b"")
        while True:
            seconds, kind, value, strict = json.loads(connection.recv_bytes())
            signal.alarm(int(seconds) + _GRACE)
            connection.send_bytes(_refusal(tokenizer, Guide(kind, value, strict=strict)).encode())
            signal.alarm(0)
    except (EOFError, ConnectionError):
        pass


def _refusal(tokenizer: LLTokenizer, guide: Guide) -> str:
    try:
        compile_guide(tokenizer, guide)
    except BadGrammar as error:
        return error.message
    return ""


def _bound_memory(mebibytes: int) -> None:
    """Whatever asks for more than that beyond what the process has at rest is refused by the system, and the compiler
    ends the process."""
    if sys.platform == "win32":
        return
    import resource

    most = psutil.Process().memory_info().vms + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is an answer here: nobody wants its core


def main(arguments: list[str]) -> int:
    """Entry: FD."""
    os.nice(_POLITE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker
    threading.stack_size(STACK)
    thread = threading.Thread(target=serve, args=(Connection(int(arguments[0])),))
    thread.start()
    thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
