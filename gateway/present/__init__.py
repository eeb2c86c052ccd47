"""From chunks to what a client reads: pure functions, one file per API."""
