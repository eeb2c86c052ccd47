"""Millstream: an OpenAI-compatible inference cluster on Redis streams, in folders that are links to the top-level ones."""
