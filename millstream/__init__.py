"""Millstream: an OpenAI-compatible inference cluster on Redis streams, in links to the top-level folders."""
