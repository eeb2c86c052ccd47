"""What gateway and worker agree on: jobs, chunks, errors, settings, and the one door to Redis (`common.broker`)."""
