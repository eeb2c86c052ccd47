"""One sequence's way through a model: what it has read is kept as the model itself keeps it.

The same tokens are read in the same passes whoever continues the sequence: the prompt in one, every later token in one
of its own. So the state, and with it each token, is the same on every worker, whatever a model's state is made of.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch publish partly unknown types)

import inspect
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from millstream.worker.engines.transformers.lora.rows import CurrentRows

_STATES = ("past_key_values", "cache_params", "state")  # the names under which models hand out and take back theirs


class Steps(Protocol):
    """Reads tokens."""

    def read(self, ids: list[int]) -> torch.Tensor:
        """Reads on, and returns the logits of the token that follows: `[vocabulary]`, float32."""
        ...


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """The ways of one decoder. `remembers`: it takes back what it has read; else it reads everything again for each
    token. `counts`: it wants to be told the places of its tokens."""

    remembers: bool = True
    counts: bool = False


def traits_of(model: Any) -> ModelTraits:
    """Finds out by trying, with a few tokens: a state that leads to other logits than reading everything at once is not
    used. Raises what the model raises."""
    counts = "position_ids" in inspect.signature(model.forward).parameters
    ids = [1, 2, 3, 5]
    whole = DecoderSteps(model, ModelTraits(remembers=False)).read(ids)
    for traits in (ModelTraits(counts=counts), ModelTraits()):
        stepwise = DecoderSteps(model, traits)
        stepwise.read(ids[:-1])
        try:
            if torch.allclose(stepwise.read(ids[-1:]), whole, rtol=1e-2, atol=1e-2 * float(whole.abs().max())):
                return traits
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
            continue  # its own state is none that it takes back
    return ModelTraits(remembers=False)


class DecoderSteps:
    """Implements `Steps` for a decoder."""

    def __init__(self, model: PreTrainedModel, traits: ModelTraits) -> None:
        self._model: Any = model
        self._traits = traits
        self._read: list[int] = []
        self._state: dict[str, Any] = {}

    @torch.inference_mode()
    def read(self, ids: list[int]) -> torch.Tensor:
        before, self._read = len(self._read), self._read + ids
        if not self._traits.remembers:
            return _last(self._model(input_ids=self._tensor(self._read), use_cache=False))
        places = torch.arange(before, len(self._read), device=self._model.device).unsqueeze(0)
        told = {"position_ids": places} if self._traits.counts else {}
        output = self._model(input_ids=self._tensor(ids), use_cache=True, **self._state, **told)
        self._state = {name: state for name in _STATES if (state := getattr(output, name, None)) is not None}
        return _last(output)

    def _tensor(self, ids: list[int]) -> torch.Tensor:
        return torch.tensor([ids], device=self._model.device)


class AdaptedSteps:
    """Implements `Steps` with an adapter."""

    def __init__(self, steps: Steps, rows: CurrentRows, adapter: str) -> None:
        self._steps = steps
        self._rows = rows
        self._adapter = adapter

    def read(self, ids: list[int]) -> torch.Tensor:
        with self._rows.all_of(self._adapter):
            return self._steps.read(ids)


class EncodedSteps:
    """Implements `Steps` for an encoder with a decoder: the first that is read is the input, for the encoder."""

    def __init__(self, model: PreTrainedModel, first: int, forced: int | None) -> None:
        """`first`: the token that the decoder begins with; `forced`: the one that must be its first own."""
        self._model: Any = model
        self._first = first
        self._forced = forced
        self._encoded: Any = None
        self._state: Any = None

    @torch.inference_mode()
    def read(self, ids: list[int]) -> torch.Tensor:
        if self._encoded is not None:
            return self._decode(ids)
        self._encoded = self._model.get_encoder()(input_ids=torch.tensor([ids], device=self._model.device))
        logits = self._decode([self._first])
        if self._forced is not None:
            others = torch.arange(logits.shape[0], device=logits.device) != self._forced
            logits = logits.masked_fill(others, float("-inf"))
        return logits

    def _decode(self, ids: list[int]) -> torch.Tensor:
        output = self._model(
            encoder_outputs=self._encoded,
            decoder_input_ids=torch.tensor([ids], device=self._model.device),
            past_key_values=self._state,
            use_cache=True,
        )
        self._state = output.past_key_values
        return _last(output)


def _last(output: Any) -> torch.Tensor:
    return output.logits[0, -1].float()
