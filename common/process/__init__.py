"""What every process needs to start, stop and supervise itself and its children."""
