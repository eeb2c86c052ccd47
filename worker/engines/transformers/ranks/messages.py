"""Messages by which rank 0 tells the other ranks: the model, the size of the cache, and the inputs of each pass."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers publish partly unknown types)

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from transformers import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cache import PagedAttentionCache

from millstream.worker.engines.transformers.loading.attention import LayerCache, Paged

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
PATIENCE = timedelta(days=365)  # a rank waits for the next step as long as nobody asks anything
_HOST = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Share:
    """The model of which each of `size` ranks reads its part. `origin`: the options of every `from_pretrained` of it;
    `kv_heads`: the key-value heads of one rank."""

    path: str
    origin: dict[str, Any]
    dtype: torch.dtype | None
    device: str  # its type
    size: int
    kv_heads: int
    threads: int | None


@dataclass(frozen=True, slots=True)
class CacheSize:
    """A new cache of the same pages as rank 0's, which has its own heads in them."""

    config: ContinuousBatchingConfig


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """The inputs of the model, and the name of the attention that it uses."""

    attention: str
    args: Any
    kwargs: Any


@dataclass(frozen=True, slots=True)
class RanksEnd:
    """There is nothing more to do."""


RankMessage = Share | CacheSize | ForwardPass | RanksEnd


@dataclass(frozen=True, slots=True)
class _OwnCache:
    """Stands for the cache, of which each rank has its own."""


@dataclass(slots=True)
class OwnState:
    """Holds what a rank puts in place of rank 0's."""

    device: torch.device
    cache: Any = None
    layers: dict[int, LayerCache] = field(default_factory=dict[int, LayerCache])


def tell(message: RankMessage) -> None:
    """Tells all other ranks. Raises RuntimeError if one is gone."""
    dist.broadcast_object_list([message], src=0, device=_HOST)


def hear() -> RankMessage:
    """Waits for rank 0's next message. Raises RuntimeError if it is gone."""
    box: list[Any] = [None]
    dist.broadcast_object_list(box, src=0, device=_HOST)
    return box[0]


def packed(value: Any) -> Any:
    """Returns inputs of a model as they are told. Raises TypeError for what the other ranks could not be told."""
    match value:
        case torch.Tensor():
            return value.detach().to(_HOST).clone()  # a view would be sent with all that it is a view of
        case Paged():
            return replace(value, layers={}, write=packed(value.write))
        case PagedAttentionCache():
            return _OwnCache()
        case dict():
            return {name: packed(part) for name, part in value.items()}
        case list() | tuple():
            return [packed(part) for part in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"The other ranks cannot be told of a {type(value).__name__} that the model is given.")


def unpacked(value: Any, own: OwnState) -> Any:
    """Returns what was told as inputs for this rank's part of the model."""
    match value:
        case torch.Tensor():
            return value.to(own.device)
        case Paged():
            return replace(value, layers=own.layers)
        case _OwnCache():
            return own.cache
        case dict():
            return {name: unpacked(part, own) for name, part in value.items()}
        case list():
            return [unpacked(part, own) for part in value]
        case _:
            return value
