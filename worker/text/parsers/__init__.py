"""From a model's text to typed deltas: reasoning and tool calls, in the notation the model was trained on."""
