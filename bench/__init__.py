"""Measuring: load from outside, and what each process pays for it."""
