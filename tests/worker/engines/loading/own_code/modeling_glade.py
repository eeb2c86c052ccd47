"""A model with code of its own, as ChatGLM and Baichuan have it: a cache of tuples, and places that it wants told."""

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class GladeConfig(PretrainedConfig):
    """Has names of its own where others say `vocab_size` and `num_hidden_layers`, as such models do."""

    model_type = "glade"

    def __init__(self, padded_vocab_size: int = 260, width: int = 32, places: int = 256, **others: Any) -> None:
        self.padded_vocab_size, self.width, self.places = padded_vocab_size, width, places
        super().__init__(**others)


class GladeModel(PreTrainedModel):
    """One layer of attention."""

    config_class = GladeConfig

    def __init__(self, config: GladeConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.padded_vocab_size, config.width)
        self.order = nn.Embedding(config.places, config.width)
        self.joined = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.padded_vocab_size)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Without `position_ids` it counts from 0, also after a past, as ChatGLM does."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1]).unsqueeze(0)
        query, key, value = self.joined(self.words(input_ids) + self.order(position_ids)).chunk(3, -1)
        if past_key_values is not None:
            key, value = (torch.cat((past, new), 1) for past, new in zip(past_key_values, (key, value), strict=True))
        scores = query @ key.transpose(1, 2) / key.shape[-1] ** 0.5
        seen = torch.ones(query.shape[1], key.shape[1]).tril(key.shape[1] - query.shape[1]).bool()
        states = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value
        return CausalLMOutputWithPast(logits=self.output(states), past_key_values=(key, value) if use_cache else None)
