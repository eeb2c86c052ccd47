"""Quantised weights: those that a checkpoint brings, and those that are made shorter while they are read."""
