"""Upstreams that take and give token ids, as a token engine: all that concerns text stays with the worker."""
