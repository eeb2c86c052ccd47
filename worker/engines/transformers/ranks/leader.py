"""Leads the other ranks from rank 0: starts them, tells them each forward pass before it runs its own part, and hears
of their deaths."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false
# (torch publishes partly unknown types)

import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import wraps
from threading import Lock, Thread
from time import sleep
from typing import Any

import psutil
import structlog
import torch.distributed as dist
from transformers import PreTrainedModel

from millstream.common.process.command import own_python
from millstream.common.settings import child_environment, hand_to_children
from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.ranks.messages import (
    BACKENDS,
    PATIENCE,
    CacheSize,
    ForwardPass,
    RanksEnd,
    Share,
    packed,
    tell,
)
from millstream.worker.engines.transformers.ranks.settings import RankSettings

_HERE = "127.0.0.1"
_LOOK_EVERY = 0.02  # seconds
_STDERR = 2
_FOLLOWER = "millstream.worker.engines.transformers.ranks.follower"

log = structlog.stdlib.get_logger(part="engine")


class RankDied(LoadFailed):
    """One of the ranks is gone, and the model with it."""


class Ranks:
    """The other ranks, as rank 0 sees them. A pass of the model that fails here leaves them in the middle of theirs:
    that, and a death of theirs, is told to whom `listen` names."""

    def __init__(self, share: Share) -> None:
        self.size = share.size
        self._passing = Lock()
        self._followers: list[subprocess.Popen[bytes]] = []
        self._cache: Any = None
        self._listener: Callable[[BaseException], None] | None = None
        self.lost: RankDied | None = None
        self._closing = False
        try:
            self._meet(share)
            tell(share)
        except BaseException:
            self.close()
            raise

    def _meet(self, share: Share) -> None:
        backend = BACKENDS[share.device]
        if RankSettings().launched:
            dist.init_process_group(backend, init_method="env://", timeout=PATIENCE)
            return
        _stay_on_this_machine()
        listener = socket.create_server((_HERE, 0))
        port = listener.getsockname()[1]
        wait = timedelta(minutes=5)
        handle = listener.detach()
        store = dist.TCPStore(_HERE, port, share.size, True, wait, wait_for_workers=False, master_listen_fd=handle)
        for rank in range(1, share.size):
            self._start(rank, share.size, port)
        while not store.check([f"here/{rank}" for rank in range(1, share.size)]):
            if self.lost is not None:
                raise self.lost
            sleep(_LOOK_EVERY)
        dist.init_process_group(backend, store=store, rank=0, world_size=share.size, timeout=PATIENCE)

    def _start(self, rank: int, size: int, port: int) -> None:
        """Starts a follower, which hangs on its standard input: that ends with this process, however it ends."""
        command = own_python(f"from {_FOLLOWER} import main; main()", str(rank), str(size), str(port))
        environment = {**child_environment(), "LOCAL_RANK": str(rank)}
        follower = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=_STDERR, env=environment, process_group=0)
        self._followers.append(follower)
        Thread(target=self._watch, args=(rank, follower), name=f"rank-{rank}", daemon=True).start()

    def _watch(self, rank: int, follower: "subprocess.Popen[bytes]") -> None:
        status = follower.wait()
        if not self._closing:
            log.error("rank_died", rank=rank, pid=follower.pid, status=status)
            self._fail(RankDied(f"Rank {rank} of {self.size} is gone (status {status}).", param="tensor_parallel"))

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, RankDied):
            self.lost = error
        if self._listener is not None:
            self._listener(error)

    def listen(self, broken: Callable[[BaseException], None]) -> None:
        """Has `broken` called, on any thread, when a rank is lost."""
        self._listener = broken
        if self.lost is not None:
            broken(self.lost)

    def lead(self, model: PreTrainedModel) -> None:
        """Has the other ranks run every forward pass of `model` as well, from now on."""
        alone = model.forward

        @wraps(alone)
        def forward(*args: Any, **kwargs: Any) -> Any:
            with self._passing:
                try:
                    tell(ForwardPass(str(_attention_of(model)), packed(args), packed(kwargs)))
                    return alone(*args, **kwargs)
                except Exception as error:
                    self._fail(self.lost or error)
                    raise

        model.forward = forward

    def make_room(self, cache: Any, config: Any) -> None:
        """Has the others make a cache like `cache`, of the resolved `config`, if they have not yet."""
        if cache is not self._cache:
            self._cache = cache
            with self._passing:
                tell(CacheSize(config))

    def close(self) -> None:
        """Ends the other ranks."""
        self._closing = True
        if not self._followers and dist.is_initialized() and self._passing.acquire(timeout=1):
            with suppress(RuntimeError):  # one of them is gone already
                tell(RanksEnd())  # torchrun's processes are not ours to kill
        for follower in self._followers:
            follower.kill()
            follower.wait()
            if follower.stdin is not None:
                follower.stdin.close()
        if dist.is_initialized():
            dist.destroy_process_group()


def _attention_of(model: PreTrainedModel) -> str | None:
    return model.config._attn_implementation  # pyright: ignore[reportPrivateUsage]


def _stay_on_this_machine() -> None:
    """Keeps the ports that the ranks open for each other on the loopback interface."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == _HERE for address in addresses):
            hand_to_children("GLOO_SOCKET_IFNAME", name)
            hand_to_children("NCCL_SOCKET_IFNAME", name)
            return
