"""Turns chunks into parts of an answer that several APIs share: pure functions."""
