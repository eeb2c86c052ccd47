"""Being told to stop: Ctrl-C, SIGTERM, or the terminal closed."""

import asyncio
import signal
from collections.abc import Callable


def on_stop_signals(call: Callable[[], object]) -> None:
    """Has the running loop call it at each of the stop signals. A process started with `nohup` stays when the terminal
    goes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if not (number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):
            loop.add_signal_handler(number, call)
