"""From chunks to parts of an answer that several APIs share: pure functions."""
