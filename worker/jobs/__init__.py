"""The jobs a worker runs: claimed, prepared, run, and written to the outbox."""
