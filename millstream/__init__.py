"""Millstream: an OpenAI-compatible inference cluster on Redis streams. Its folders are links to the top-level ones."""
