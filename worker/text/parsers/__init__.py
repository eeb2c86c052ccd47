"""Turns a model's text into typed deltas: reasoning and tool calls, in the notation the model was trained on."""
