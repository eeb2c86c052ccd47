"""The adapters of one model that are in memory."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers publish partly unknown types)

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from millstream.worker.engines.model_files.adapters.fitting import check_adapter, submodule, widths
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
        check_adapter(adapter, self._plain, cast(Any, self._model).get_output_embeddings())

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
        found = submodule(self._model, name)
        return found if found is not None and widths(found) is not None else None

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
