"""Measurements of this project, run from a checkout with `python -m bench.lab.NAME`."""
