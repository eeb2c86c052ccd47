"""The adapters of one model that are in memory."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers publish partly unknown types)

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.adapters.folder import Adapter
from millstream.worker.engines.transformers.lora.layer import AdaptedLinear
from millstream.worker.engines.transformers.lora.rows import CurrentRows

_PIECE = 16  # layers between two steps of the batch, so that running streams keep flowing


class LoadedAdapters:
    """Puts adapters beside the layers of a model, and takes them away. `installing` and `removing` are work for the
    thread that runs the model, piece by piece between its steps."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._layers: dict[str, AdaptedLinear] = {}
        self._uses: Counter[str] = Counter()
        self.rows = CurrentRows(model.device)

    @property
    def memory(self) -> int:
        """Returns the bytes of all adapters together."""
        return sum(layer.memory for layer in self._layers.values())

    def check(self, adapter: Adapter) -> None:
        """Raises `LoadFailed` for an adapter that was not made for a model like this one."""
        last = cast(Any, self._model).get_output_embeddings()
        for name, pair in adapter.layers.items():
            if ".experts." in name:
                raise _foreign(adapter, f"`{name}` is one of several experts, which sees some of the tokens alone")
            layer = self._plain(name)
            own = None if layer is None else _shape(layer)
            if own is None:
                raise _foreign(adapter, f"the model has no linear layer `{name}`")
            if layer is last:
                raise _foreign(adapter, f"it changes the output layer `{name}`, which sees the newest tokens alone")
            if own != (pair.down.shape[1], pair.up.shape[0]):
                theirs = f"{pair.down.shape[1]} to {pair.up.shape[0]}"
                raise _foreign(adapter, f"`{name}` goes from {theirs} there, and from {own[0]} to {own[1]} here")

    def installing(self, adapter: Adapter) -> Iterator[None]:
        """Adds the adapter. Raises what torch raises where memory is short, and takes back what it did."""
        self._uses[adapter.digest] += 1
        if self._uses[adapter.digest] > 1:
            return
        try:
            for number, (name, pair) in enumerate(adapter.layers.items()):
                self._wrapped(name).put(adapter.digest, pair)
                if number % _PIECE == _PIECE - 1:
                    yield
        except BaseException:
            for _ in self.removing(adapter.digest):
                pass
            raise

    def removing(self, digest: str) -> Iterator[None]:
        """Takes the adapter away once nobody else uses it; layers without any are the model's own again."""
        self._uses[digest] -= 1
        if self._uses[digest] > 0:
            return
        del self._uses[digest]
        for number, (name, layer) in enumerate(list(self._layers.items())):
            layer.drop(digest)
            if not layer.adapters:
                self._put(name, layer.inner)
                del self._layers[name]
            if number % _PIECE == _PIECE - 1:
                yield

    def _plain(self, name: str) -> nn.Module | None:
        """Returns the model's own layer of this name, if it is a linear one."""
        if name in self._layers:
            return self._layers[name].inner
        try:
            found = self._model.get_submodule(name)
        except AttributeError:
            return None
        return found if _shape(found) is not None else None

    def _wrapped(self, name: str) -> AdaptedLinear:
        if name not in self._layers:
            inner = self._model.get_submodule(name)
            first = next(inner.parameters(), None)
            device = self._model.device if first is None else first.device
            self._layers[name] = AdaptedLinear(inner, self.rows, device, self._model.dtype)
            self._put(name, self._layers[name])
        return self._layers[name]

    def _put(self, name: str, layer: nn.Module) -> None:
        parent, _, last = name.rpartition(".")
        setattr(self._model.get_submodule(parent), last, layer)


def _shape(layer: nn.Module) -> tuple[int, int] | None:
    """Returns the widths of a linear layer, in and out; None for another one. GPT-2's are called `nx` and `nf`."""
    read = getattr(layer, "in_features", getattr(layer, "nx", None))
    written = getattr(layer, "out_features", getattr(layer, "nf", None))
    return (read, written) if isinstance(read, int) and isinstance(written, int) else None


def _foreign(adapter: Adapter, why: str) -> LoadFailed:
    return LoadFailed(
        f"The adapter {adapter.source!r} was not made for this model, or cannot be served beside it: {why}.",
        param="adapter",
    )
