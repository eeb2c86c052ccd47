"""Measurements of what the queue costs, by server and by step."""
