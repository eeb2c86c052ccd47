"""Tells whether an adapter was made for a model like this one, by the names and widths of the layers."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch publishes partly unknown types)

from collections.abc import Callable

from torch import nn

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.adapters.folder import Adapter


def check_adapter(adapter: Adapter, layer_of: Callable[[str], nn.Module | None], last: object) -> None:
    """Raises `LoadFailed` for an adapter that was not made for the model whose layers `layer_of` finds by their names;
    `last` is its output layer."""
    for name, pair in adapter.layers.items():
        if ".experts." in name:
            raise _foreign(adapter, f"`{name}` is one of several experts, which sees some of the tokens alone")
        layer = layer_of(name)
        own = None if layer is None else widths(layer)
        if own is None:
            raise _foreign(adapter, f"the model has no linear layer `{name}`")
        if layer is last:
            raise _foreign(adapter, f"it changes the output layer `{name}`, which sees the newest tokens alone")
        if own != (pair.down.shape[1], pair.up.shape[0]):
            theirs = f"{pair.down.shape[1]} to {pair.up.shape[0]}"
            raise _foreign(adapter, f"`{name}` goes from {theirs} there, and from {own[0]} to {own[1]} here")


def submodule(model: nn.Module, name: str) -> nn.Module | None:
    """Returns the part of a model that has this name, if there is one."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def widths(layer: nn.Module) -> tuple[int, int] | None:
    """Returns the widths of a linear layer, in and out; None for another one. GPT-2's are called `nx` and `nf`."""
    read = getattr(layer, "in_features", getattr(layer, "nx", None))
    written = getattr(layer, "out_features", getattr(layer, "nf", None))
    return (read, written) if isinstance(read, int) and isinstance(written, int) else None


def _foreign(adapter: Adapter, why: str) -> LoadFailed:
    return LoadFailed(
        f"The adapter {adapter.source!r} was not made for this model, or cannot be served beside it: {why}.",
        param="adapter",
    )
